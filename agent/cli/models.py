"""`vigie models`: the networks of the registry, their files, and where to get those that are not shipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import AsJson, ConfigFile, examples, fail, loaded
from agent.inference.backend import ENGINES

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from agent.inference.registry import Model, Registry
    from agent.store import FileState

app = typer.Typer(no_args_is_help=True, help="List, fetch and verify the networks that the agent may load.")


class Precision(str, Enum):
    """Of an engine's weights and arithmetic."""

    FP16 = "fp16"
    FP32 = "fp32"


_COLOURS = {"absent": "dim", "refused": "bold red", "verified": "green"}


@app.command(name="list")
def list_models(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the networks, best first, and say whether their files are here and are the registered ones."""
    from rich.console import Console
    from rich.table import Column, Table

    from agent.store import states

    registry = _registry(config)
    if as_json:
        typer.echo(json.dumps([_described(registry, model) for model in registry.models], indent=2))
        return
    table = Table(Column("name", no_wrap=True), "version", "task", Column("size", justify="right"), "file", "licence")
    for model in registry.models:
        main, *fp16 = states(registry, model)
        table.add_row(model.name, model.version, model.task, _megabytes(main.size), _coloured(main), model.licence)
        for half in fp16:
            table.add_row("", "", "  in FP16", _megabytes(half.size), _coloured(half))
    Console().print(table)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="Name of the network.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Print all that the registry says of one network, where its card is, and how its files are."""
    from rich.console import Console
    from rich.table import Table

    registry = _registry(config)
    (model,) = _named(registry, [name])
    found = _described(registry, model)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table("field", "value", box=None, header_style="bold")
    for fields in ({key: value for key, value in found.items() if key != "files"}, *found["files"]):
        for key, value in fields.items():
            table.add_row(key, _plain(value))
        table.add_row()
    Console(markup=False).print(table)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Names of networks.  [default: all]")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare files with their registered SHA-256. Exit code 1 if one is wrong, or if one that was named is absent."""
    from agent.store import states

    registry = _registry(config)
    models = _named(registry, names) if names else registry.models
    files = [(model, file) for model in models for file in states(registry, model)]
    if as_json:
        typer.echo(json.dumps([{"name": model.name, **_file(file)} for model, file in files], indent=2))
    else:
        for model, file in files:
            typer.echo(f"{model.name}: {file.reason or f'{file.path or file.file.file}: {file.state}'}")
    wrong = {"refused", "absent"} if names else {"refused"}
    raise typer.Exit(int(any(file.state in wrong for _, file in files)))


@app.command(epilog=examples({"sudo vigie models pull yolox-nano": "for every user of this machine"}))
def pull(
    names: Annotated[list[str], typer.Argument(help="Names of networks.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Where the files go.  [default: the folder of `inference.models`; without one, /var/lib/vigie-models "
            "for root and ~/.local/share/vigie/models for anybody else]"
        ),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Fetch networks that are not shipped, from their official addresses.

    $VIGIE_MODEL_MIRROR, a folder or an address (file:, http:, https:), is asked first; $HTTPS_PROXY, $HTTP_PROXY and
    $NO_PROXY are honoured. A broken download goes on where it broke. A file whose SHA-256 is not the registered one is
    refused, and what was there before stays. Exit code 3 if something could not be fetched.
    """
    from agent import store
    from agent.download import DownloadError

    registry = _registry(config)
    wanted = [(model, file) for model in _named(registry, names) for file in model.files]
    pulled, problems = [], []
    with _progress() as progress:
        for model, file in wanted:
            task = progress.add_task(file.file, total=file.size)

            def told(have: int, total: int | None, task: TaskID = task) -> None:
                progress.update(task, completed=have, total=total)

            try:
                path, source = store.pull(registry, file, folder, told)
            except DownloadError as error:
                problems.append(f"{model.name}: {error}")
                continue
            pulled.append({"name": model.name, "path": str(path), "source": source, "licence": model.licence})
    if as_json:
        typer.echo(json.dumps(pulled, indent=2))
    else:
        for one in pulled:
            origin = f"from {one['source']}" if one["source"] else "was there already"
            typer.echo(f"{one['name']}: {one['path']}: verified, {origin}; licence {one['licence']}")
    if problems:
        fail("\n".join(problems), 3)


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(help="Names of networks.  [default: all that are here]")] = None,
    precision: Annotated[Precision, typer.Option(help="Of weights and arithmetic.")] = Precision.FP16,
    workspace_mib: Annotated[int, typer.Option(min=64, help="Most memory to try a layer with, MiB.")] = 512,
    folder: Annotated[Path, typer.Option(help="Where engines are kept.")] = ENGINES,
    again: Annotated[bool, typer.Option("--again", help="Also build what is there already.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Build TensorRT engines for this device, one at a time; each takes minutes. Stop the agent: memory is scarce.

    An engine serves the TensorRT version, GPU and L4T alone that built it; those of others are removed first. Exit code
    3 if one could not be built.
    """
    from rich.console import Console
    from rich.progress import Progress

    from agent.inference.backend import InferenceError
    from agent.inference.engines import EngineCache, construct, target

    registry = _registry(config)
    models = _named(registry, names) if names else [model for model in registry.models if registry.path(model)]
    cache = EngineCache(folder)
    built: list[dict[str, str]] = []
    problems = []
    try:
        here = target()
        with cache.locked(), Progress(console=Console(stderr=True), transient=True) as progress:
            removed = cache.forget_others(here)
            for model in models:
                task = progress.add_task(model.name, total=None)

                def told(phase: str, done: int, steps: int, task: TaskID = task, name: str = model.name) -> None:
                    progress.update(task, description=f"{name}: {phase}", completed=done, total=steps)

                try:
                    path, is_new = construct(
                        cache, registry, model, here, precision.value, workspace_mib << 20, told, again=again
                    )
                except InferenceError as error:
                    problems.append(f"{model.name}: {error}")
                    continue
                finally:
                    progress.remove_task(task)
                built.append({"name": model.name, "path": str(path), "state": "built" if is_new else "was there"})
    except InferenceError as error:
        fail(str(error), 3)
    if as_json:
        typer.echo(
            json.dumps({"target": asdict(here), "engines": built, "removed": [str(path) for path in removed]}, indent=2)
        )
    else:
        for path in removed:
            typer.echo(f"{path}: of another target, removed")
        for one in built:
            typer.echo(f"{one['name']}: {one['path']}: {one['state']}")
    if problems:
        fail("\n".join(problems), 3)


def _progress() -> Progress:
    """Bytes and speed of each file, on a terminal."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _registry(config: Path | None) -> Registry:
    from agent.inference.backend import InferenceError
    from agent.inference.registry import Registry

    try:
        return Registry(loaded(config).inference.models)
    except InferenceError as error:
        fail(str(error), 2)


def _named(registry: Registry, names: Sequence[str]) -> list[Model]:
    from agent.inference.backend import InferenceError

    try:
        return [registry.find(name) for name in dict.fromkeys(names)]
    except InferenceError as error:
        fail(str(error), 2)


def _described(registry: Registry, model: Model) -> dict[str, Any]:
    from agent.store import states

    fields = model.model_dump(mode="json", exclude={"file", "sha256", "size", "url", "fp16"})
    card = registry.folders[0] / model.card
    files = [_file(file) for file in states(registry, model)]
    return {**fields, "card": str(card) if card.exists() else None, "files": files}


def _file(file: FileState) -> dict[str, Any]:
    path = file.path and str(file.path)
    return {
        **file.file.model_dump(include={"file", "sha256", "url"}),
        "size": file.size,
        "path": path,
        "state": file.state,
    }


def _coloured(file: FileState) -> str:
    words = "can be pulled" if file.state == "absent" and file.file.url else file.state
    return f"[{_COLOURS[file.state]}]{words}[/]"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    return "" if value is None else str(value)


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f} MB"
