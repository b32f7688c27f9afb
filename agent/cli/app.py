"""All commands in one place, and the exit codes they share.

Exit codes: 0 done; 1 a check failed (`config check`, `eval --check`, a process that died for good); 2 wrong usage or
configuration; 3 something outside failed (a camera, a clip, the broker); 4 `doctor` has warnings and no failure; 130
stopped from the keyboard.
"""

from __future__ import annotations

import typer

from agent.cli import (
    aim,
    audit,
    bench,
    certificate,
    config,
    config_wizard,
    contract,
    decommission,
    demo,
    doctor,
    events,
    fleet,
    logs,
    man,
    models,
    notice,
    policy,
    relay,
    replay,
    run,
    status,
    test,
    update,
    version,
    zones,
)
from agent.cli import eval as evaluation
from agent.cli.common import examples

app = typer.Typer(
    name="vigie",
    help="Privacy-first video and audio analytics: what happens, never who.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="markdown",
    epilog="On a device begin with `vigie doctor`; on a laptop with `vigie demo`.\n\n"
    "Exit codes: 0 done · 1 a check failed · 2 wrong usage or configuration · "
    "3 something outside failed · 4 warnings of `doctor`.",
)


@app.callback()
def _vigie() -> None:
    """Keep `vigie COMMAND` a group, whatever number of commands there is."""


app.command(epilog=examples({"vigie run -c vigie.toml": "both processes, in this terminal; Ctrl-C stops them"}))(
    run.run
)
app.command()(demo.demo)
app.command()(run.sense)
app.command()(relay.relay)
app.command(
    epilog=examples(
        {"vigie status": "how the running agent is", "vigie status --watch": "the same, each second, on one screen"}
    )
)(status.status)
app.command(
    epilog=examples(
        {
            "sudo vigie doctor": "everything, on one screen",
            "vigie doctor --only camera,mic": "two subjects alone, at once",
            "vigie doctor --json | jq '.checks[] | select(.level != \"ok\")'": "what is not well, for a program",
        }
    )
)(doctor.doctor)
app.command(
    epilog=examples(
        {
            "sudo vigie events --local": "what this device sends, and how long each delivery takes; without a broker",
            "vigie events": "what the broker has of this device",
            "vigie events --topic 'vigie/v1/+/+/event/#' --json": "all events of the fleet, one a line",
        }
    )
)(events.events)
app.command()(aim.aim)
app.command()(version.version)
app.command()(decommission.decommission)
app.command()(man.man)
app.command()(replay.replay)
app.add_typer(evaluation.app, name="eval")
app.add_typer(audit.app, name="audit")
config.app.command()(config_wizard.wizard)
app.add_typer(config.app, name="config")
app.add_typer(certificate.app, name="certificate")
app.add_typer(contract.app, name="contract")
app.add_typer(bench.app, name="bench")
app.add_typer(logs.app, name="logs")
app.add_typer(models.app, name="models")
app.add_typer(test.app, name="test")
app.add_typer(update.app, name="update")
app.add_typer(zones.app, name="zones")
app.add_typer(policy.app, name="policy")
app.add_typer(notice.app, name="notice")
app.add_typer(fleet.app, name="fleet")
