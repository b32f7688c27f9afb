"""Which settings a manager may change: what each camera and the microphone look and listen for.

May be changed: of a camera that the device has, its zones, its rules, its frame rate, and which local device it is
(`csi://…`, `v4l2:…`), since those numbers change when a cable is moved; of the microphone its rules, gain and floor.

May not: the policy and the trust file (so that no manager can permit a detection, or trust a key), the broker, the
names, files and sockets of the device, its models, which cameras there are, and sources with an address or a path.

A camera that the document does not name stays as the device's own files say, and so does a key of it that is not
there. Both processes read a document with this module; the parameters of the rules are checked by sense.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from agent.canonical import canonical
from agent.contract import MAX_CAMERAS, Name
from agent.settings import (
    CameraSettings,
    MicrophoneSettings,
    RuleSettings,
    Settings,
    SettingsError,
    ZoneSettings,
    did_you_mean,
    explain,
    mask_url,
)

LocalSource = Annotated[str, StringConstraints(pattern=r"^(csi://[0-9]{1,2}|v4l2:/dev/video[0-9]{1,3})$")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class WantedCamera(_Table):
    """What a manager wants of one camera."""

    name: Name = Field(description="Name of a camera that the device has.")
    source: LocalSource | None = Field(None, description="csi://0 or v4l2:/dev/video0; unset: the device's own.")
    fps: float | None = Field(None, gt=0, le=60, description="Frames analysed per second; unset: the device's own.")
    zones: tuple[ZoneSettings, ...] | None = Field(None, alias="zone", description="All its zones.")
    rules: tuple[RuleSettings, ...] | None = Field(None, alias="rule", description="All its rules.")


class WantedMicrophone(_Table):
    """What a manager wants of the microphone."""

    gain_db: float | None = Field(None, ge=-20, le=40, description="Gain, dB.")
    floor_dbfs: float | None = Field(None, ge=-120, le=0, description="Level of the background, dB of full scale.")
    rules: tuple[RuleSettings, ...] | None = Field(None, alias="rule", description="All its rules.")


class Wanted(_Table):
    """The settings in a desired configuration."""

    cameras: tuple[WantedCamera, ...] = Field((), alias="camera", max_length=MAX_CAMERAS)
    microphone: WantedMicrophone = WantedMicrophone()

    @model_validator(mode="after")
    def _each_once(self) -> Wanted:
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ValueError("a camera stands there twice")
        return self


def with_wanted(own: Settings, table: dict[str, Any]) -> Settings:
    """The device's settings with those of a manager.

    Args:
        own: Of the device's own files.
        table: Of a desired configuration.

    Raises:
        SettingsError: a key that no manager may change, a camera that is not there, a value that cannot be.
    """
    try:
        wanted = Wanted.model_validate(table)
    except ValidationError as error:
        raise SettingsError(explain(error, Wanted)) from None
    names = [camera.name for camera in own.cameras]
    for camera in wanted.cameras:
        if camera.name not in names:
            hint = did_you_mean(camera.name, names) or f"; it has: {', '.join(names) or 'none'}"
            raise SettingsError([f"camera: the device has no camera {camera.name!r}{hint}"])
    by_name = {camera.name: _given(camera) for camera in wanted.cameras}
    whole = own.model_dump(by_alias=True)
    try:
        whole["camera"] = [
            CameraSettings.model_validate({**_own(camera), **by_name.get(camera.name, {})}) for camera in own.cameras
        ]
        whole["microphone"] = MicrophoneSettings.model_validate({**_own(own.microphone), **_given(wanted.microphone)})
        return Settings(**whole)
    except ValidationError as error:
        raise SettingsError(explain(error, Settings)) from None


def _own(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(by_alias=True)


def _given(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(by_alias=True, exclude_none=True)


def changeable(settings: Settings) -> dict[str, Any]:
    """What is in force of the part that a manager may change, as a document would say it; sources are masked."""
    cameras: list[dict[str, Any]] = []
    for camera in settings.cameras:
        table = camera.model_dump(mode="json", by_alias=True, exclude={"loop"}, exclude_defaults=True)
        table = {"name": camera.name, "fps": camera.fps, "zone": [], "rule": [], **table}
        cameras.append({**table, "source": mask_url(camera.source)})
    sound = settings.microphone
    keys = {"gain_db", "floor_dbfs", "rules"}
    heard = sound.model_dump(mode="json", by_alias=True, include=keys, exclude_defaults=True)
    return {"camera": cameras, "microphone": heard}


def local_words(settings: Settings) -> bytes:
    """What a technician has written of cameras and microphone: another text after an edit, not after an update."""
    table = settings.model_dump(mode="json", by_alias=True, include={"cameras", "microphone"}, exclude_unset=True)
    return canonical(table)
