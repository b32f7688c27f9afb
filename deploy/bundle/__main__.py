"""`make bundle TARGET=… KEY=…`: build a release as one signed file."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from rich.console import Console

from agent.relay.keys import KeyFileError, read_private_key
from deploy.bundle.recipe import TARGETS, RecipeError, build


def main() -> None:
    """Build one."""
    parser = argparse.ArgumentParser(prog="make bundle", description=__doc__)
    parser.add_argument("--target", required=True, choices=TARGETS)
    parser.add_argument("--key", required=True, type=Path, help="private key that signs (PEM, chmod 600)")
    parser.add_argument("--python", help="Python of the device, such as 3.11; default: the target's own")
    parser.add_argument("--source", type=Path, default=Path.cwd(), help="tree to build from; default: this one")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the bundle; default: dist")
    asked = parser.parse_args()
    target = TARGETS[asked.target]
    if asked.python:
        target = dataclasses.replace(target, python=asked.python)
    console = Console(stderr=True)
    try:
        with console.status("") as shown:
            path = build(asked.source.absolute(), target, read_private_key(asked.key), asked.out, shown.update)
    except (RecipeError, KeyFileError, OSError) as error:
        sys.exit(f"make bundle: {error}")
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
