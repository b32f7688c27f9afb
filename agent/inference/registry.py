"""The model registry: which networks there are, what they expect, and the SHA-256 without which none is loaded."""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from agent.inference.backend import InferenceError
from agent.settings import SettingsError, explain, read_toml

_FILE = "registry.toml"
_CHECKOUT = Path(__file__).parents[2]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PictureInput(_Table):
    """What a network that looks wants to be given: (batch, 3, height, width)."""

    width: int = Field(gt=0, le=4096, description="Pixels.")
    height: int = Field(gt=0, le=4096, description="Pixels.")
    colour: Literal["bgr", "rgb"] = Field(description="Order of the three planes.")
    white: Literal[1, 255] = Field(description="Value of full brightness; black is 0.")
    letterbox: int = Field(ge=0, le=255, description="Brightness around a picture of another shape, 0 to 255.")


class Model(_Table):
    """One network."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")] = Field(description="Name in settings.")
    version: str = Field(description="Version of the weights.")
    task: Literal["detect"] = Field(description="What it does.")
    decoder: Literal["yolox", "fastestdet"] = Field(description="How its output is read.")
    classes: dict[str, Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="Our name of a class, and its place among the network's classes; others are ignored."
    )
    input: PictureInput
    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.onnx$")] = Field(
        description="File name, beside the registry."
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(description="SHA-256 of the file.")
    source: str = Field(description="Where it comes from.")
    licence: str = Field(description="SPDX identifier.")


class _Contents(_Table):
    model: tuple[Model, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> _Contents:
        names = [model.name for model in self.model]
        double = {name for name in names if names.count(name) > 1}
        if double:
            raise ValueError(f"two models have one name: {', '.join(sorted(double))}")
        return self


class Registry:
    """The networks that are known, best first, and the folders in which their files are looked for."""

    def __init__(self, configured: Path | None = None) -> None:
        """Read a registry.

        Args:
            configured: Folder with a registry and its models. None: those of the installation or checkout, and then
                the models in `$VIGIE_DATA/models` (by default the data folder beside a checkout).

        Raises:
            InferenceError: the registry is missing or cannot be used.
        """
        self.folders = (configured,) if configured else _default_folders()
        path = self.folders[0] / _FILE
        try:
            self.models = _Contents.model_validate(read_toml(path)).model
        except SettingsError as error:
            raise InferenceError(f"model registry: {error}") from error
        except ValidationError as error:
            raise InferenceError(f"model registry {path}: " + "; ".join(explain(error, _Contents))) from None

    def find(self, name: str) -> Model:
        """The network with this name.

        Raises:
            InferenceError: there is none.
        """
        names = [model.name for model in self.models]
        if name in names:
            return self.models[names.index(name)]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the registry has: {', '.join(names) or 'none'}"
        raise InferenceError(f"no model is called {name!r}; {hint}")

    def read(self, model: Model) -> bytes:
        """The content of a network's file, once its SHA-256 is verified.

        It is read once, so that what was verified is what gets loaded.

        Raises:
            InferenceError: the file is not there, cannot be read, or is another one.
        """
        path = next((path for folder in self.folders if (path := folder / model.file).exists()), None)
        if path is None:
            folders = " or ".join(str(folder) for folder in self.folders)
            raise InferenceError(f"{model.file} is not in {folders}; get it from {model.source}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InferenceError(f"{path}: cannot be read: {error.strerror}") from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != model.sha256:
            raise InferenceError(
                f"{path} is not the registered file and was not loaded: "
                f"its SHA-256 is {digest}, the registry has {model.sha256}"
            )
        return content


def _default_folders() -> tuple[Path, ...]:
    shipped = _CHECKOUT / "models"
    if not (shipped / _FILE).exists():
        shipped = Path(sys.prefix) / "share" / "vigie" / "models"
    data = Path(os.environ.get("VIGIE_DATA") or _CHECKOUT.parent / "shared" / "data")
    return shipped, data / "models"
