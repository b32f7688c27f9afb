"""`vigie eval patch`: how well changed patches are told apart."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.common import AsJson, fail, loaded


def patch(
    data: Annotated[Path, typer.Option(help="Shared data: bags, graffiti, street, person.")],
    model: Annotated[
        str | None,
        typer.Option(help="Network of the registry.  [default: the first patch checker]", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Name patches of pictures that were held back from training, and say what was taken for what."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Column, Table

    from agent.evaluate.patches import PatchError, judge, read_patches
    from agent.inference.backend import InferenceError, select
    from agent.inference.registry import PatchModel, Registry
    from agent.perception.patch import PatchChecker

    settings = loaded(None).inference
    console = Console(stderr=True)
    try:
        registry = Registry(settings.models)
        chosen = registry.find(model, PatchModel) if model else next(iter(registry.of(PatchModel)), None)
        if chosen is None:
            fail("the registry has no patch checker", 3)
        backend, _ = select(settings.backend, registry.read(chosen), settings.threads)
        patches = track(read_patches(data), "reading", console=console, transient=True, disable=not console.is_terminal)
        told = judge(PatchChecker(backend, chosen), [patch for patch in patches if patch.held_back])
    except (PatchError, OSError) as error:
        fail(str(error), 2)
    except InferenceError as error:
        fail(str(error), 3)
    if as_json:
        typer.echo(json.dumps({"model": chosen.name, "classes": {name: asdict(one) for name, one in told.items()}}))
        return
    columns = [Column(name, justify="right") for name in ("patches", "AP", "95 % interval", "recall")]
    table = Table("class", *columns, "taken for it by mistake", title=f"{chosen.name}, held-back pictures")
    for name, one in told.items():
        mistakes = ", ".join(f"{source} {part:.1%}" for source, part in one.false.items())
        interval = f"{one.low:.3f} to {one.high:.3f}"
        table.add_row(name, str(one.patches), f"{one.average_precision:.3f}", interval, f"{one.recall:.3f}", mistakes)
    Console().print(table)
