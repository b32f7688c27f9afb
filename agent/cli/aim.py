"""`vigie aim`: the technician's view, in a browser, without a picture of anybody."""

from __future__ import annotations

import getpass
import socket
import time
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.common import ConfigFile, fail, loaded, start_log
from agent.word import MOST_MINUTES

#: Where systemd listens for technicians, and where the view leaves its token for them.
UNIT_SOCKET = Path("/run/vigie/aim.sock")
UNIT_TOKEN = Path("/run/vigie-aim/token")
_PORT = 8080
_WAIT_S = 40.0


def aim(
    config: ConfigFile = None,
    here: Annotated[
        bool,
        typer.Option(
            "--here", help="Be the view, in this terminal: for development, where the agent's cameras are files."
        ),
    ] = False,
    socket_path: Annotated[
        Path | None, typer.Option("--socket", help="Socket of the page with --here.  [default: beside the agent's]")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=60 * MOST_MINUTES, help="How long the view lasts at most.")] = 60
    * MOST_MINUTES,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", hidden=True, help="Where the unit leaves the token.")
    ] = None,
) -> None:
    """Aim the camera and draw zones, in a browser.

    Shows strokes where the place has edges, and markers where somebody is: never a picture. Prints an address that is
    good once; the view closes after ten minutes, and is in the audit log. While it is open the device senses nothing.

    You must be a member of group vigie-tech. From your own machine:

        ssh -L 8080:/run/vigie/aim.sock DEVICE      then, over there: vigie aim
    """
    if not here:
        _call_unit()
        return

    from agent import pipe
    from agent.aim.process import AimError, aim_main
    from agent.aim.server import listen
    from agent.durable import replace_file
    from agent.inference.backend import InferenceError
    from agent.policy import load_policy
    from agent.settings import SettingsError
    from agent.supervise import never_dump_core

    settings = loaded(config)
    start_log(settings)
    never_dump_core()
    path = socket_path or settings.pipe.status_socket.with_name("aim.sock")

    def tell(token: str) -> None:
        if token_file is None:
            _say(token, path)
        else:
            replace_file(token_file, token.encode(), 0o440)

    try:
        policy = load_policy(settings.policy_file, service=token_file is not None)
        aim_main(config, policy, listen(path), seconds, tell)
    except (SettingsError, InferenceError) as error:
        fail(str(error), 2)
    except (AimError, pipe.PipeError) as error:
        fail(str(error), 3)
    finally:
        if token_file is not None:
            token_file.unlink(missing_ok=True)
        else:
            path.unlink(missing_ok=True)


def _call_unit() -> None:
    """Have systemd start the view by knocking at its socket, and print its address."""
    if not UNIT_SOCKET.is_socket():
        fail(f"{UNIT_SOCKET}: nobody listens; is vigie-aim.socket enabled? Without units: vigie aim --here", 3)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
            knock.connect(str(UNIT_SOCKET))
            knock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            token = _token()
    except PermissionError:
        fail(f"you may not open it: {getpass.getuser()} is not in group vigie-tech", 3)
    except OSError as error:
        fail(f"{UNIT_SOCKET}: {error.strerror or error}", 3)
    _say(token, UNIT_SOCKET)


def _token() -> str:
    """The token, once the view has left it there."""
    deadline = time.monotonic() + _WAIT_S
    while not UNIT_TOKEN.exists():
        if time.monotonic() > deadline:
            fail("the view does not open: journalctl -u vigie-aim says why", 3)
        time.sleep(0.2)
    return UNIT_TOKEN.read_text(encoding="ascii")


def _say(token: str, path: Path) -> None:
    account = f"{getpass.getuser()}@{socket.gethostname()}"
    typer.echo(f"On your own machine:  ssh -L {_PORT}:{path} {account}", err=True)
    typer.echo(f"In its browser:       http://localhost:{_PORT}/?token={token}")
