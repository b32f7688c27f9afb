"""The model registry: which networks there are, what they expect, and the SHA-256 without which none is loaded."""

from __future__ import annotations

import difflib
import hashlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from agent.inference.backend import InferenceError
from agent.settings import SettingsError, explain, read_toml

_FILE = "registry.toml"
_CHECKOUT = Path(__file__).parents[2]
#: Where root fetches models to: read by sense, so not in relay's own folder.
_PULLED = Path("/var/lib/vigie-models")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PictureInput(_Table):
    """What a network that looks wants to be given: (batch, 3, height, width)."""

    width: int = Field(gt=0, le=4096, description="Pixels.")
    height: int = Field(gt=0, le=4096, description="Pixels.")
    colour: Literal["bgr", "rgb"] = Field(description="Order of the three planes.")
    white: Literal[1, 255] = Field(description="Value of full brightness; black is 0.")
    letterbox: int = Field(ge=0, le=255, description="Brightness around a picture of another shape, 0 to 255.")


class SoundInput(_Table):
    """What a network that hears wants to be given: the log-mel spectrogram of a window, (batch, 1, frames, bands)."""

    rate_hz: int = Field(ge=8000, le=48000, description="Samples a second, one channel.")
    window_s: float = Field(gt=0, le=30, description="Seconds of sound that it hears at once.")
    hop_s: float = Field(gt=0, le=30, description="Seconds from one window to the next.")
    frame_s: float = Field(gt=0, le=1, description="Seconds of sound in one frame of the spectrogram.")
    step_s: float = Field(gt=0, le=1, description="Seconds from one frame to the next.")
    bands: int = Field(gt=0, le=512, description="Mel bands.")
    low_hz: float = Field(ge=0, description="Lower end of the lowest band.")
    high_hz: float = Field(gt=0, description="Upper end of the highest band.")

    @model_validator(mode="after")
    def _fits(self) -> SoundInput:
        if not self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError(
                f"low_hz {self.low_hz:g} must be below high_hz {self.high_hz:g}, and that at most half of rate_hz"
            )
        if not self.step_s <= self.frame_s <= self.window_s or self.hop_s > self.window_s:
            raise ValueError("step_s must not exceed frame_s, nor frame_s and hop_s window_s")
        return self


class ModelFile(_Table):
    """One file of a network."""

    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.onnx$")] = Field(
        description="File name, beside the registry."
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(description="SHA-256 of the file.")
    size: int | None = Field(None, gt=0, description="Bytes of the file.")
    url: Annotated[str, StringConstraints(pattern=r"^https://[^\s@?#]+$")] | None = Field(
        None, description="Official address of a file that is not shipped, for `vigie models pull`."
    )

    @model_validator(mode="after")
    def _size_is_known(self) -> ModelFile:
        if self.url and not self.size:
            raise ValueError("a file with a url needs its size, in bytes")
        return self


class Model(ModelFile):
    """What the registry says of any network; its kinds add how it is fed and read."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")] = Field(description="Name in settings.")
    version: str = Field(description="Version of the weights.")
    task: str = Field(description="What it does.")
    classes: dict[str, Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="Our name of a class, and its place among the network's classes; others are ignored."
    )
    fp16: ModelFile | None = Field(
        None, description="The same network with FP16 weights, for TensorRT; its input and outputs are FP32."
    )
    source: str = Field(description="Where it comes from.")
    licence: str = Field(description="SPDX identifier.")

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """The file, and the one with FP16 weights where there is one."""
        return (self, self.fp16) if self.fp16 else (self,)

    @property
    def card(self) -> str:
        """File name of what is known about the network, beside the registry."""
        return f"{self.name}.md"


class DetectorModel(Model):
    """Finds objects in pictures."""

    task: Literal["detect"] = Field(description="What it does.")
    decoder: Literal["yolox", "fastestdet"] = Field(description="How its output is read.")
    input: PictureInput


class SoundModel(Model):
    """Says what a window of sound contains, several things at once if need be."""

    task: Literal["tag-sound"] = Field(description="What it does.")
    decoder: Literal["sigmoid"] = Field(
        description="How its output, (batch, classes) float32, is read: the logistic function of each is a probability."
    )
    input: SoundInput
    temperature: float = Field(
        1.0,
        gt=0,
        le=100,
        description="Each logit is divided by it first, so that a probability means what it says (Guo et al., 2017).",
    )
    thresholds: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(
        {},
        description="For a class, the probability, after temperature, from which it counts as heard; 0.5 if unnamed.",
    )
    experimental: tuple[str, ...] = Field(
        (), description="Classes that are off by default: on unheard recordings their precision is below 0.8."
    )

    @model_validator(mode="after")
    def _knows_its_classes(self) -> SoundModel:
        for field, names in (("thresholds", self.thresholds), ("experimental", self.experimental)):
            if unknown := set(names) - set(self.classes):
                raise ValueError(f"{field}: not among its classes: {', '.join(sorted(unknown))}")
        return self

    def threshold(self, name: str) -> float:
        """The probability, after temperature, from which a class counts as heard."""
        return self.thresholds.get(name, 0.5)


class PatchModel(Model):
    """Says which one thing a patch of a picture shows."""

    task: Literal["check-patch"] = Field(description="What it does.")
    decoder: Literal["softmax"] = Field(
        description="How its output, (batch, classes) float32, is read: its softmax is the probability of each."
    )
    input: PictureInput


_KINDS: dict[str, type[Model]] = {"detect": DetectorModel, "tag-sound": SoundModel, "check-patch": PatchModel}
_Kind = TypeVar("_Kind", bound=Model)


class _Contents(_Table):
    """The file's outer form; what an entry must have depends on its task."""

    model: tuple[dict[str, Any], ...] = ()


class Registry:
    """The networks that are known.

    Attributes:
        models: All of them, best first.
        folders: Where their files are looked for, in this order; the first is that of the registry.
        target: Where `vigie models pull` puts a file.
    """

    def __init__(self, configured: Path | None = None) -> None:
        """Read a registry.

        Args:
            configured: Folder with a registry and its models. None: those of the installation or checkout, then the
                models that were pulled for this machine or by this user, and those in `$VIGIE_DATA/models` (by default
                the data folder beside a checkout).

        Raises:
            InferenceError: the registry is missing or cannot be used.
        """
        self.folders = (configured,) if configured else _default_folders()
        self.target = configured or (_PULLED if os.geteuid() == 0 else _own_folder())
        self.models = _read(self.folders[0] / _FILE)

    def of(self, kind: type[_Kind]) -> tuple[_Kind, ...]:
        """The networks of one kind, best first."""
        return tuple(model for model in self.models if isinstance(model, kind))

    @overload
    def find(self, name: str) -> Model: ...
    @overload
    def find(self, name: str, kind: type[_Kind]) -> _Kind: ...
    def find(self, name: str, kind: type[Model] = Model) -> Model:
        """The network with this name.

        Raises:
            InferenceError: there is none, or it is of another kind.
        """
        model = next((model for model in self.models if model.name == name), None)
        if isinstance(model, kind):
            return model
        if model is not None:
            raise InferenceError(f"model {name!r} cannot serve here: its task is {model.task}")
        names = [model.name for model in self.of(kind)]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the registry has: {', '.join(names) or 'none'}"
        raise InferenceError(f"no model is called {name!r}; {hint}")

    def path(self, file: ModelFile) -> Path | None:
        """Where a file is, or None when no folder has it."""
        return next((path for folder in self.folders if os.path.lexists(path := folder / file.file)), None)

    def read(self, model: Model, file: ModelFile | None = None) -> bytes:
        """The content of a network's file, once its SHA-256 is verified.

        It is read once, so that what was verified is what gets loaded.

        Args:
            model: The network.
            file: Which of its files, such as `model.fp16`. None: the one that every backend runs.

        Raises:
            InferenceError: the file is not there, cannot be read, or is another one.
        """
        file = file or model
        path = self.path(file)
        if path is None:
            folders = " or ".join(str(folder) for folder in self.folders)
            way = f"vigie models pull {model.name}" if file.url else f"get it from {model.source}"
            raise InferenceError(f"{file.file} is not in {folders}; {way}")
        return verified(path, file)


def verified(path: Path, file: ModelFile) -> bytes:
    """The content of what is meant to be a registered file.

    Raises:
        InferenceError: it cannot be read, or its SHA-256 is another one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InferenceError(f"{path}: cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise InferenceError(
            f"{path} is not the registered file and was not loaded: "
            f"its SHA-256 is {digest}, the registry has {file.sha256}"
        )
    return content


def _read(path: Path) -> tuple[Model, ...]:
    """The networks of a registry file.

    Raises:
        InferenceError: it is missing or cannot be used; each problem has the name of its network.
    """
    try:
        entries = _Contents.model_validate(read_toml(path)).model
    except SettingsError as error:
        raise InferenceError(f"model registry: {error}") from error
    except ValidationError as error:
        raise InferenceError(f"model registry {path}: " + "; ".join(explain(error, _Contents))) from None
    models: list[Model] = []
    problems: list[str] = []
    for place, entry in enumerate(entries, 1):
        name = entry.get("name", f"number {place}")
        kind = _KINDS.get(str(entry.get("task")))
        if kind is None:
            problems.append(f"model {name}: task: must be one of {', '.join(_KINDS)}")
            continue
        try:
            models.append(kind.model_validate(entry))
        except ValidationError as error:
            problems += [f"model {name}: {problem}" for problem in explain(error, kind)]
    for what, values in (
        ("name", [model.name for model in models]),
        ("file", [file.file for model in models for file in model.files]),
    ):
        double = {value for value in values if values.count(value) > 1}
        problems += [f"two models have one {what}: {value}" for value in sorted(double)]
    if problems:
        raise InferenceError(f"model registry {path}: " + "; ".join(problems))
    return tuple(models)


def _own_folder() -> Path:
    home = os.environ.get("XDG_DATA_HOME") or Path(os.environ.get("HOME", "/root"), ".local/share")
    return Path(home) / "vigie" / "models"


def _default_folders() -> tuple[Path, ...]:
    shipped = _CHECKOUT / "models"
    if not (shipped / _FILE).exists():
        shipped = Path(sys.prefix) / "share" / "vigie" / "models"
    data = Path(os.environ.get("VIGIE_DATA") or _CHECKOUT.parent / "shared" / "data")
    return shipped, _PULLED, _own_folder(), data / "models"
