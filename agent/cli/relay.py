"""`vigie relay`: the relaying half as a service."""

from __future__ import annotations

import typer

from agent.cli.common import ConfigFile, fail, loaded, start_log
from agent.cli.run import PipeFd


def relay(config: ConfigFile = None, pipe_fd: PipeFd = None) -> None:
    """Run the relaying process: gate, journal and MQTT, without any camera, microphone or model."""
    import os
    import socket

    from agent.policy import load_policy
    from agent.relay.journal import JournalError, JournalFullError
    from agent.relay.mqtt import MqttError
    from agent.relay.process import relay_main
    from agent.settings import SettingsError
    from agent.supervise import AGAIN, begin_anew, die_with_parent, never_dump_core

    settings = loaded(config)
    start_log(settings)
    never_dump_core()
    if pipe_fd is not None:
        die_with_parent()
    try:
        policy = load_policy(settings.policy_file, service=pipe_fd is None)
        code = relay_main(settings, policy, socket.socket(fileno=os.dup(pipe_fd)) if pipe_fd is not None else None)
    except (SettingsError, MqttError) as error:
        fail(str(error), 2)
    except (JournalFullError, OSError) as error:
        fail(str(error), 3)
    except JournalError as error:
        fail(str(error), 2)
    if code == AGAIN:
        begin_anew(pipe_fd)
    raise typer.Exit(code)
