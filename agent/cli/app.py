"""All commands in one place, and the exit codes they share.

Exit codes: 0 done; 1 a check failed (`config check`, `eval --check`, a process that died for good); 2 wrong usage or
configuration; 3 something outside failed (a camera, a clip, the broker); 130 stopped from the keyboard.
"""

from __future__ import annotations

import typer

from agent.cli import (
    aim,
    audit,
    bench,
    config,
    contract,
    demo,
    events,
    fleet,
    models,
    notice,
    policy,
    relay,
    replay,
    run,
    status,
    test,
    version,
    zones,
)
from agent.cli import eval as evaluation

app = typer.Typer(
    name="vigie",
    help="Privacy-first video and audio analytics: what happens, never who.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="markdown",
    epilog="Exit codes: 0 done · 1 a check failed · 2 wrong usage or configuration · 3 something outside failed.",
)


@app.callback()
def _vigie() -> None:
    """Keep `vigie COMMAND` a group, whatever number of commands there is."""


app.command()(run.run)
app.command()(demo.demo)
app.command()(run.sense)
app.command()(relay.relay)
app.command()(status.status)
app.command()(aim.aim)
app.command()(events.events)
app.command()(version.version)
app.command()(replay.replay)
app.add_typer(evaluation.app, name="eval")
app.add_typer(audit.app, name="audit")
app.add_typer(config.app, name="config")
app.add_typer(contract.app, name="contract")
app.add_typer(bench.app, name="bench")
app.add_typer(models.app, name="models")
app.add_typer(test.app, name="test")
app.add_typer(zones.app, name="zones")
app.add_typer(audit.app, name="audit")
app.add_typer(policy.app, name="policy")
app.add_typer(notice.app, name="notice")
app.add_typer(fleet.app, name="fleet")
