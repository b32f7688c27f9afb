"""Settings: TOML file < drop-ins < environment `VIGIE_…` < options on the command line.

Every field has a description, a unit and bounds; an unknown key is refused with the nearest known name. Secrets are
paths of files (systemd credentials), never values.

The file is `/etc/vigie/vigie.toml` unless `--config` says otherwise; drop-ins are `*.toml` in the folder of the same
name with `.d` behind it, in alphabetical order. Tables merge, lists replace. An environment variable names a key with
two underscores for a dot: `VIGIE_MQTT__HOST=broker.example`.

This module holds what both processes need. The parameters of a behaviour belong to the behaviour
(`agent.behaviours`), so a rule keeps them unchecked here and sense, `vigie config check` and `vigie replay` check them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import pwd
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as EnvironmentValueError

from agent.contract import MAX_CAMERAS, MAX_ZONES, EventType, Name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_CONFIG = Path("/etc/vigie/vigie.toml")
#: User of the technician's view, which may write drop-ins, and in them zones alone.
AIM_USER = "vigie-aim"
#: Environment variables of ours that are no settings.
_NOT_SETTINGS = frozenset(
    {
        "VIGIE_DATA",
        "VIGIE_REQUIRE_RIGS",
        "VIGIE_CONFIG",
        "VIGIE_MODEL_MIRROR",
        "VIGIE_CACHE",
        "VIGIE_FLEET_KEY",
    }
)


class SettingsError(ValueError):
    """A configuration that cannot be used; `problems` has one line each, with the key and what to do."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, or nothing where none is near."""
    near = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


_TYPE_LABELS = [event_type.label for event_type in EventType]


def _known_type(label: str) -> str:
    if label not in _TYPE_LABELS:
        raise ValueError(f"no event type is called {label!r}{did_you_mean(label, _TYPE_LABELS)}")
    return label


#: The public name of an event type.
TypeLabel = Annotated[
    str, AfterValidator(_known_type), WithJsonSchema({"type": "string", "enum": _TYPE_LABELS}, mode="validation")
]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class DeviceSettings(_Table):
    """Who this device is: the two names in every topic."""

    site: Name = Field("site", description="Site of the device: the first level of its topics.")
    name: Name = Field("camera", description="Name of the device, unique in the fleet; the CN of its certificate.")
    labels: tuple[Name, ...] = Field((), max_length=8, description="Labels by which `vigie fleet` chooses devices.")


class MqttSettings(_Table):
    """The broker."""

    host: str = Field("localhost", min_length=1, max_length=253, description="Host name or address of the broker.")
    port: int = Field(8883, ge=1, le=65535, description="TCP port.")
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        "auto", description="MQTT version; `auto` tries 5 and falls back to 3.1.1."
    )
    tls: bool = Field(True, description="TLS 1.2 or newer. Off is refused unless the broker is on this machine.")
    ca_file: Path | None = Field(None, description="PEM file of the authority that signed the broker's certificate.")
    cert_file: Path | None = Field(None, description="PEM file of the device's certificate.")
    key_file: Path | None = Field(None, description="PEM file of the device's private key.")
    username: str | None = Field(None, max_length=128, description="User name, where the broker wants one.")
    password_file: Path | None = Field(None, description="File that holds the password.")
    keepalive_s: int = Field(30, ge=5, le=3600, description="Keep-alive, seconds.")
    backoff_min_s: float = Field(1.0, ge=0.05, le=60, description="First pause before reconnecting, seconds.")
    backoff_max_s: float = Field(120.0, ge=0.05, le=3600, description="Longest pause before reconnecting, seconds.")
    inflight: int = Field(64, ge=1, le=1000, description="Messages under way without acknowledgement.")

    @model_validator(mode="after")
    def _plain_text_stays_at_home(self) -> MqttSettings:
        if not self.tls and self.host not in {"localhost", "127.0.0.1", "::1"}:
            raise ValueError("tls = false is only for a broker on this machine (localhost)")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        if self.backoff_min_s > self.backoff_max_s:
            raise ValueError("backoff_min_s is longer than backoff_max_s")
        return self


class JournalSettings(_Table):
    """The database with the audit log and the outbox."""

    folder: Path = Field(Path("/var/lib/vigie"), description="Folder of the journal; only relay writes there.")
    outbox_max_mib: float = Field(64, gt=0, le=4096, description="Largest outbox, MiB of payload.")
    outbox_max_age_h: float = Field(168, gt=0, le=8760, description="Oldest event kept undelivered, hours.")
    audit_max_mib: float = Field(256, ge=1, le=65536, description="Largest audit log, MiB; the oldest entries go.")


class AuditSettings(_Table):
    """The audit log's signatures."""

    key_file: Path | None = Field(
        None,
        description="PEM file of the Ed25519 key that signs the audit log, such as a systemd credential; unset: "
        "`audit.key` in the journal's folder, made at the first start.",
    )
    head_every_s: float = Field(
        3600, ge=10, le=86_400, description="Time between two heads of the audit log on topic `audit/head`, seconds."
    )


class ClockSettings(_Table):
    """What is done before the clock of the device is set."""

    required: bool = Field(
        False,
        description="Whether somebody (chrony, systemd-timesyncd) must answer for the clock; else a clock that nobody "
        "answers for is believed from 2026 on.",
    )
    hold_s: float = Field(
        60,
        ge=0,
        le=3600,
        description="Events wait for the first synchronisation of the clock until so long after relay's start, "
        "seconds; then they leave, marked `unsynced`. Those that could not leave are corrected also later.",
    )


class FleetSettings(_Table):
    """What a manager may ask of this device over the broker."""

    trust_file: Path = Field(
        Path("/etc/vigie/trust.toml"),
        description="Keys that may sign commands and configurations; without it nobody may.",
    )
    trial_s: float = Field(
        120,
        ge=1,
        le=3600,
        description="Time for a new configuration to bring up every camera that worked before, seconds; else the one "
        "before comes back.",
    )


class PipeSettings(_Table):
    """The pipe between sense and relay."""

    socket: Path = Field(Path("/run/vigie/pipe.sock"), description="Where relay listens for sense.")
    sense_user: str | None = Field(
        None, max_length=32, description="User that sense runs as, where it is another one than relay's."
    )
    max_rate: float = Field(
        20, gt=0, le=10_000, description="Observations that relay accepts, per second on average; the rest is dropped."
    )
    max_burst: int = Field(200, ge=1, le=100_000, description="Observations that relay accepts at once.")
    status_socket: Path = Field(
        Path("/run/vigie/status.sock"), description="Where relay answers `vigie status` on this machine."
    )


class InferenceSettings(_Table):
    """Model and backend."""

    backend: Literal["auto", "tensorrt", "onnxruntime", "jetson-inference"] = Field(
        "auto", description="Inference backend; `auto` takes the first whose self-check passes."
    )
    detector: str = Field(
        "auto", description="Model of the registry, or `motion` for moving blobs; `auto` takes the best one present."
    )
    tagger: str = Field(
        "auto", description="Model of the registry that names sounds; `auto` takes the best one present."
    )
    models: Path | None = Field(None, description="Folder with the registry and the models; default: the shipped one.")
    threads: int = Field(1, ge=1, le=64, description="CPU threads of one inference.")
    score: float = Field(0.1, ge=0.01, le=0.99, description="Lowest detection score that the tracker gets to see.")
    jetson_network: str | None = Field(
        None,
        description="Network for detectNet of jetson-inference: one that it brings, such as `peoplenet`, or the path "
        "of an SSD (.onnx) or DetectNet_v2 (.engine); without one detectNet is not tried.",
    )
    jetson_labels: Path | None = Field(None, description="Names of its classes, one a line, where it is a file.")

    @model_validator(mode="after")
    def _jetson_inference_has_a_network(self) -> InferenceSettings:
        if self.backend == "jetson-inference" and self.jetson_network is None:
            raise ValueError("backend jetson-inference needs a jetson_network, such as peoplenet")
        return self


#: One corner: x to the right, y down, as fractions of width and height.
Point = tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]]


class CalibrationSettings(_Table):
    """Where points of the ground are seen: what tells square metres from a picture."""

    picture: tuple[Point, Point, Point, Point] = Field(
        description="Four points on the ground, as fractions of the frame's width and height; no three on one line."
    )
    ground_m: tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]] = Field(
        description="The same points as measured on the ground, metres, in any frame of reference: "
        "[[0, 0], [6, 0], [6, 4], [0, 4]] are the corners of 6 m by 4 m."
    )

    @model_validator(mode="after")
    def _spans_an_area(self) -> CalibrationSettings:
        for points, least in ((self.picture, 1e-4), (self.ground_m, 0.1)):
            for left_out in range(4):
                (x0, y0), (x1, y1), (x2, y2) = (p for place, p in enumerate(points) if place != left_out)
                if abs((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)) / 2 < least:
                    raise ValueError("three of the four points are nearly on one line: choose the corners of an area")
        return self


class ZoneSettings(_Table):
    """An area of the picture; a person is in it when the feet are."""

    name: Name = Field(description="Name of the zone, unique on the device; it is part of the events.")
    polygon: tuple[Point, ...] = Field(
        min_length=3, max_length=64, description="Corners as fractions of the frame's width and height."
    )
    calibration: CalibrationSettings | None = Field(
        None, description="Distances on the ground, for densities in persons per square metre."
    )

    @field_validator("polygon")
    @classmethod
    def _has_area(cls, polygon: tuple[Point, ...]) -> tuple[Point, ...]:
        area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True)) / 2
        if abs(area) < 1e-4:
            raise ValueError("the polygon has no area: give at least three corners that are not on one line")
        return polygon


class RuleSettings(BaseModel):
    """One behaviour in one zone. Further keys are the behaviour's own parameters (`vigie config schema`)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: TypeLabel = Field(description="Event type, such as `crowd.gathering`.")
    zone: Name | None = Field(None, description="Zone it watches.")
    schedule: tuple[str, ...] = Field(
        (), description='When it is on, local time, such as "Mon-Fri 22:00-06:00"; empty: always.'
    )

    @field_validator("schedule")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_schedule(text)
        return value

    @property
    def event_type(self) -> EventType:
        """The event type."""
        return EventType.parse(self.type)

    @property
    def parameters(self) -> dict[str, Any]:
        """The behaviour's own parameters, unchecked."""
        return dict(self.model_extra or {})


class CameraSettings(_Table):
    """One camera with its zones and rules."""

    name: Name = Field(description="Name of the camera, unique on the device.")
    source: str = Field(
        min_length=1,
        max_length=1024,
        description="csi://0, v4l2:/dev/video0, rtsp://host/path, file:clip.mp4 or sim:scenario; "
        "jetson:URI for videoSource of jetson-utils.",
    )
    fps: float = Field(10, gt=0, le=60, description="Frames analysed per second.")
    loop: bool = Field(False, description="Begin a file again at its end.")
    zones: tuple[ZoneSettings, ...] = Field((), alias="zone", description="Zones of this camera.")
    rules: tuple[RuleSettings, ...] = Field((), alias="rule", description="Behaviours that watch this camera.")

    @model_validator(mode="after")
    def _rules_have_zones(self) -> CameraSettings:
        names = [zone.name for zone in self.zones]
        for rule in self.rules:
            if rule.zone is not None and rule.zone not in names:
                hint = did_you_mean(rule.zone, names) or f"; this camera has: {', '.join(names) or 'none'}"
                raise ValueError(f"rule {rule.type} names zone {rule.zone!r}, which is not on camera {self.name}{hint}")
        return self


class MicrophoneSettings(_Table):
    """The microphone; off unless a source is given."""

    source: str | None = Field(
        None, max_length=1024, description="device:NAME (part of its name), or file:sound.ogg; unset: no microphone."
    )
    loop: bool = Field(False, description="Begin a file again at its end.")
    channels: int = Field(
        1, ge=1, le=8, description="Channels that are listened to, each by itself; 1 mixes all that there are."
    )
    gain_db: float = Field(
        0, ge=-20, le=40, description="Gain that is added before listening, dB; `vigie test mic --calibrate` finds it."
    )
    floor_dbfs: float | None = Field(
        None,
        ge=-120,
        le=0,
        description="Level of the background, dB of full scale, to begin with; `vigie test mic --calibrate` finds it.",
    )
    rules: tuple[RuleSettings, ...] = Field(
        (),
        alias="rule",
        description="What is listened for (`sound.…`), and what sound and sight together say (`incident.…`).",
    )

    @model_validator(mode="after")
    def _rules_have_no_zone(self) -> MicrophoneSettings:
        types = [rule.type for rule in self.rules]
        for rule in self.rules:
            if not rule.type.startswith(("sound.", "incident.")):
                raise ValueError(f"rule {rule.type}: is seen, not heard: it belongs to a camera, as [[camera.rule]]")
            if rule.zone is not None:
                raise ValueError(f"rule {rule.type}: a microphone has no zones; an incident has that of what is seen")
            if types.count(rule.type) > 1:
                raise ValueError(f"two rules {rule.type}: one of a type")
        return self


class Settings(BaseSettings):
    """The whole configuration of a device."""

    model_config = SettingsConfigDict(
        env_prefix="VIGIE_",
        env_prefix_target="all",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        populate_by_name=True,
    )

    device: DeviceSettings = DeviceSettings()
    mqtt: MqttSettings = MqttSettings()
    journal: JournalSettings = JournalSettings()
    audit: AuditSettings = AuditSettings()
    clock: ClockSettings = ClockSettings()
    fleet: FleetSettings = FleetSettings()
    pipe: PipeSettings = PipeSettings()
    inference: InferenceSettings = InferenceSettings()
    microphone: MicrophoneSettings = MicrophoneSettings()
    cameras: tuple[CameraSettings, ...] = Field((), alias="camera", max_length=MAX_CAMERAS)
    policy_file: Path = Field(Path("/etc/vigie/policy.toml"), description="Policy: what may be detected, and why.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity logged.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        zones = [zone.name for camera in self.cameras for zone in camera.zones]
        for what, names in (("camera", [camera.name for camera in self.cameras]), ("zone", zones)):
            double = {name for name in names if names.count(name) > 1}
            if double:
                raise ValueError(f"{what} names must be unique on the device: {', '.join(sorted(double))}")
        if len(zones) > MAX_ZONES:
            raise ValueError(f"a device has at most {MAX_ZONES} zones")
        return self

    @property
    def zone_names(self) -> tuple[str, ...]:
        """All zones in the configuration's order: an observation names a zone by its place in this list."""
        return tuple(zone.name for camera in self.cameras for zone in camera.zones)

    def zones_of(self, event_type: EventType) -> tuple[str, ...]:
        """Zones in which a rule looks for this type, in the configuration's order."""
        wanted = {rule.zone for camera in self.cameras for rule in camera.rules if rule.event_type is event_type}
        return tuple(name for name in self.zone_names if name in wanted)

    def masked(self) -> dict[str, Any]:
        """The whole configuration as JSON would have it, without the user names and passwords of its URLs."""
        table = self.model_dump(mode="json", by_alias=True)
        for source in [*table["camera"], table["microphone"]]:
            source["source"] = source["source"] and mask_url(source["source"])
        return table

    def digest(self) -> str:
        """SHA-256 of the masked configuration, in hexadecimal: published, it must not help to guess a password."""
        return hashlib.sha256(json.dumps(self.masked(), sort_keys=True).encode()).hexdigest()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is given: `load` puts the layers together, and knows where each value came from."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


class Layer(NamedTuple):
    """One source of settings."""

    origin: str
    table: dict[str, Any]


def layers(config: Path | None = None, options: Mapping[str, Any] | None = None) -> list[Layer]:
    """What each source says, the weakest first: file, drop-ins, environment, command line.

    Args:
        config: TOML file; by default `$VIGIE_CONFIG` or `/etc/vigie/vigie.toml` (which may then be absent).
        options: Values from the command line, nested.

    Raises:
        SettingsError: files that cannot be read or are no TOML, variables that are no settings.
    """
    named = config or (Path(os.environ["VIGIE_CONFIG"]) if os.environ.get("VIGIE_CONFIG") else None)
    path = named or DEFAULT_CONFIG
    files = [path] if named or path.exists() else []
    files += sorted(path.with_name(path.name + ".d").glob("*.toml"))
    found = []
    problems = _strangers_in_environment()
    if named and not path.exists():
        raise SettingsError([f"{path}: there is no such file; vigie config init writes a first one"])
    for file in files:
        try:
            found.append(Layer(str(file), read_toml(file)))
        except SettingsError as error:  # noqa: PERF203 - one bad file must not hide the next
            problems += error.problems
    problems += [
        f"{layer.origin}: belongs to {AIM_USER}, so it may hold [[camera]] and nothing else"
        for layer in found
        if set(layer.table) - {"camera"} and _is_drawn(Path(layer.origin))
    ]
    try:
        found.append(Layer("environment", EnvSettingsSource(Settings)()))
    except EnvironmentValueError as error:
        problems.append(f"environment: {error}; write a whole table or list as JSON")
    if problems:
        raise SettingsError(problems)
    return [*found, Layer("command line", dict(options or {}))]


def _is_drawn(file: Path) -> bool:
    """Whether the technician's view has written a file."""
    try:
        return file.stat().st_uid == pwd.getpwnam(AIM_USER).pw_uid
    except (KeyError, OSError):
        return False


def origin(found: Sequence[Layer], path: Sequence[int | str]) -> str | None:
    """The strongest layer that says something at `path`; None where all leave it to the default."""
    return next((layer.origin for layer in reversed(found) if _says(layer.table, path)), None)


def _says(value: Any, path: Sequence[int | str]) -> bool:
    for part in path:
        if isinstance(value, Mapping):
            if part not in value:
                return False
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            return False
    return True


def load(config: Path | None = None, options: Mapping[str, Any] | None = None) -> Settings:
    """The settings of this machine.

    Args:
        config: As for `layers`.
        options: As for `layers`.

    Raises:
        SettingsError: a file that cannot be read, no TOML, an unknown key, a value out of bounds.
    """
    found = layers(config, options)
    merged: dict[str, Any] = {}
    for layer in found:
        _merge(merged, layer.table)
    try:
        return Settings(**merged)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            said = origin(found, item["loc"]) if item["loc"] else None
            lines.append((f"{said}: " if said else "") + _problem(item, Settings))
        raise SettingsError(lines) from None


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file.

    Raises:
        SettingsError: the file is missing, unreadable, or no TOML.
    """
    try:
        with path.open("rb") as file:
            table: dict[str, Any] = tomllib.load(file)
            return table
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: no TOML: {error}"]) from error


def _strangers_in_environment() -> list[str]:
    known = {
        f"VIGIE_{name}".upper() for key, field in Settings.model_fields.items() for name in (key, field.alias or key)
    }
    heads = {name: name.upper().partition("__")[0] for name in os.environ if name.upper().startswith("VIGIE_")}
    return [
        f"environment: {name} is no setting{did_you_mean(head, known)} (two underscores stand for a dot)"
        for name, head in sorted(heads.items())
        if head not in known | _NOT_SETTINGS
    ]


def explain(error: ValidationError, model: type[BaseModel], also: Iterable[str] = ()) -> list[str]:
    """One line for each problem: the key's path, what is wrong, and the nearest known key.

    Args:
        error: What pydantic found.
        model: The model that it checked.
        also: Further keys that may stand at the top, known to somebody else.
    """
    return [_problem(item, model, also) for item in error.errors()]


def _problem(item: ErrorDetails, model: type[BaseModel], also: Iterable[str] = ()) -> str:
    loc, kind = item["loc"], item["type"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    if kind == "extra_forbidden":
        known = _keys_at(model, loc[:-1]) + (list(also) if len(loc) == 1 else [])
        return f"{path}: unknown key{did_you_mean(str(loc[-1]), known)}"
    if kind == "missing":
        return f"{path}: is missing"
    if kind == "tuple_type":
        table = isinstance(item["input"], Mapping)
        return f"{path}: must be a list" + (f": write [[{path}]] instead of [{path}]" if table else "")
    if kind == "string_pattern_mismatch" and item["ctx"]["pattern"] == _NAME_PATTERN:
        return f"{path}: a name has a to z, 0 to 9 and '-' (not at its ends), at most 32 of them"
    return f"{path or 'configuration'}: {item['msg'].removeprefix('Value error, ')}"


_NAME_PATTERN = get_args(Name)[1].pattern


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] = model
    for part in loc:
        if isinstance(part, int):
            continue
        field = next(
            (f for name, f in current.model_fields.items() if part in {name, f.alias}),
            None,
        )
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            return []
        current = inner
    return [field.alias or name for name, field in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is not None:
        for argument in get_args(annotation):
            found = _model_in(argument)
            if found is not None:
                return found
    return None


def mask_url(url: str) -> str:
    """The address without what may be a secret, for logs and tables: user, password, query, and `key=value` in a path.

    Where a password itself contains `/` or `@`, too much is masked rather than too little.
    """
    if "://" not in url:
        return url
    without_user = re.sub(r"(?s)://.*@", "://***@", url)
    return re.sub(r"(?s)(\?|(?<=[/;&])[^/;&?]*=).*", "***", without_user)


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = "(?:" + "|".join(_DAYS) + ")"
_SCHEDULE = re.compile(
    rf"(?:(?P<days>{_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*)\s+)?"
    r"(?P<h0>[0-9]{1,2}):(?P<m0>[0-5][0-9])-(?P<h1>[0-9]{1,2}):(?P<m1>[0-5][0-9])"
)


def parse_schedule(text: str) -> tuple[frozenset[int], int, int]:
    """Days (0 is Monday) and minutes of the day in which a rule is on; an end before the start is next morning.

    Args:
        text: `HH:MM-HH:MM`, with days before it if wanted: `Mon-Fri 22:00-06:00`, `Sat,Sun 08:00-20:00`.

    Raises:
        ValueError: the text does not have this form.
    """
    match = _SCHEDULE.fullmatch(text.strip().lower())
    hint = f"{text!r} is no schedule; write it as 'Mon-Fri 22:00-06:00' or '08:00-20:00'"
    if match is None:
        raise ValueError(hint)
    begin = int(match["h0"]) * 60 + int(match["m0"])
    end = int(match["h1"]) * 60 + int(match["m1"])
    if begin == end or max(begin, end) > 1440:
        raise ValueError(hint)
    if match["days"] is None:
        return frozenset(range(7)), begin, end
    days: set[int] = set()
    for item in match["days"].split(","):
        first, _, last = item.partition("-")
        start, stop = _DAYS.index(first), _DAYS.index(last or first)
        days.update((start + step) % 7 for step in range((stop - start) % 7 + 1))
    return frozenset(days), begin, end
