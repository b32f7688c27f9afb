"""Labels of test clips, format `vigie-eval/1`: the rules that watch a clip, and the events that they must tell."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.behaviours.registry import BEHAVIOURS
from agent.contract import ContractError, EventType
from agent.settings import CameraSettings, SettingsError, explain

_WHOLE_PICTURE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))

#: Begin and end, seconds of the clip.
Span = tuple[float, float]


class LabelledRule(BaseModel):
    """A rule with its zone's polygon in it; further keys are the behaviour's parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str
    zone: str | None = None
    polygon: tuple[tuple[float, float], ...] = _WHOLE_PICTURE

    @property
    def event_type(self) -> EventType | None:
        """The event type, None where this version knows none of that name."""
        try:
            return EventType.parse(self.type)
        except ContractError:
            return None


class LabelledEvent(BaseModel):
    """An episode that must start within a span."""

    type: str
    zone: str | None = None
    start: Span


class LabelledClip(BaseModel):
    """One clip: what watches it, what must be told, and the spans in which anything may be."""

    rules: tuple[LabelledRule, ...] = ()
    events: tuple[LabelledEvent, ...] = ()
    ignore: tuple[Span, ...] = ()

    def split(self) -> tuple[list[LabelledRule], list[LabelledRule]]:
        """The rules that this version has a behaviour for, and the others."""
        built = [rule for rule in self.rules if rule.event_type in BEHAVIOURS]
        return built, [rule for rule in self.rules if rule not in built]

    def camera(self, source: str) -> CameraSettings:
        """A camera with those rules that have a behaviour.

        Raises:
            SettingsError: a rule cannot be used, or a zone has two polygons.
        """
        rules, _ = self.split()
        zones: dict[str, Any] = {}
        for rule in rules:
            if rule.zone is not None and zones.setdefault(rule.zone, rule.polygon) != rule.polygon:
                raise SettingsError([f"labels: zone {rule.zone} has two polygons"])
        table = {
            "name": "clip",
            "source": source,
            "zone": [{"name": name, "polygon": polygon} for name, polygon in zones.items()],
            "rule": [rule.model_dump(exclude={"polygon"}) for rule in rules],
        }
        try:
            return CameraSettings.model_validate(table)
        except ValidationError as error:
            raise SettingsError([f"labels: {problem}" for problem in explain(error, CameraSettings)]) from None


class Labels(BaseModel):
    """A labels file."""

    format: Literal["vigie-eval/1"]
    clips: dict[str, LabelledClip]

    def only(self, types: Collection[str]) -> Labels:
        """These event types alone, and the clips that have a rule of them."""
        clips = {}
        for name, clip in self.clips.items():
            if rules := tuple(rule for rule in clip.rules if rule.type in types):
                events = tuple(event for event in clip.events if event.type in types)
                clips[name] = clip.model_copy(update={"rules": rules, "events": events})
        return self.model_copy(update={"clips": clips})


def read_labels(path: Path) -> Labels:
    """The labels in a JSON file.

    Raises:
        SettingsError: it cannot be read, or is not in the format.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read: {error.strerror}"]) from error
    try:
        return Labels.model_validate_json(text)
    except ValidationError as error:
        raise SettingsError([f"{path}: {problem}" for problem in explain(error, Labels)]) from None
