"""`vigie run` and `vigie sense`: the agent as two children, or its sensing half as a service."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.cli.common import ConfigFile, fail, loaded, start_log

PipeFd = Annotated[int | None, typer.Option("--pipe-fd", min=3, help="Inherited end of the pipe (used by `run`).")]


def run(config: ConfigFile = None) -> None:
    """Run the whole agent: relay and sense as child processes, restarted with back-off when they die.

    Stops them in order on SIGTERM or Ctrl-C, and by itself when a file source has come to its end.
    """
    from agent import pipe
    from agent.supervise import Supervisor, agent_children

    settings = loaded(config)
    start_log(settings)
    sense_end, relay_end = pipe.pair()
    arguments = ["--config", str(config)] if config else []
    raise typer.Exit(Supervisor(agent_children(sense_end, relay_end, arguments)).run())


def sense(config: ConfigFile = None, pipe_fd: PipeFd = None) -> None:
    """Run the sensing process: cameras, microphone and models, without any network.

    As a service it connects to relay's socket and refuses to run where it could reach the outside.
    """
    import os
    import socket

    from agent.inference.backend import InferenceError
    from agent.policy import load_policy
    from agent.sense import SenseError, sense_main
    from agent.settings import SettingsError
    from agent.supervise import AGAIN, begin_anew, die_with_parent, never_dump_core

    settings = loaded(config)
    start_log(settings)
    never_dump_core()
    if pipe_fd is not None:
        die_with_parent()
    try:
        policy = load_policy(settings.policy_file, service=pipe_fd is None)
        connection = socket.socket(fileno=os.dup(pipe_fd)) if pipe_fd is not None else None
        code = sense_main(settings, policy, connection)
    except (SettingsError, SenseError, InferenceError) as error:
        fail(str(error), 2)
    if code == AGAIN:
        begin_anew(pipe_fd)
    raise typer.Exit(code)
