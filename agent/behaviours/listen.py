"""All that is listened for: each rule of the microphone looks at each hearing, live and in replay alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from pydantic import ValidationError

from agent.behaviours.episode import EpisodeChange
from agent.behaviours.sound_events import MANNERS, SoundEvent, SoundParameters
from agent.behaviours.watch import Schedule
from agent.inference.registry import SoundModel
from agent.perception.hearing import Hearing
from agent.settings import RuleSettings, SettingsError, explain


def sound_event(rule: RuleSettings, model: SoundModel) -> SoundEvent | str:
    """The behaviour that a `sound.…` rule asks for, or the reason in words why this network must not serve it.

    Raises:
        SettingsError: its parameters cannot be used.
    """
    path = f"microphone: rule {rule.type}"
    if rule.event_type not in MANNERS:
        raise SettingsError([f"{path}: is not a sound; there are: {', '.join(t.label for t in MANNERS)}"])
    try:
        parameters = SoundParameters.model_validate(rule.parameters)
    except ValidationError as error:
        problems = explain(error, SoundParameters, RuleSettings.model_fields)
        raise SettingsError([f"{path}: {problem}" for problem in problems]) from None
    name = rule.type.removeprefix("sound.")
    doubtful = name in model.experimental
    if doubtful and not parameters.experimental:
        return (
            f"{rule.type}: is experimental with {model.name}: its card says how often it is wrong; "
            "experimental = true in the rule runs it all the same"
        )
    return SoundEvent(rule.event_type, parameters, model.threshold(name), doubtful=doubtful)


class Listening:
    """The `sound.…` rules of the microphone."""

    def __init__(
        self, rules: Sequence[RuleSettings], model: SoundModel, wall: Callable[[], datetime] | None = None
    ) -> None:
        """Build the behaviours.

        Args:
            rules: Those that may run; of other types than sounds none.
            model: The network that serves.
            wall: Local time, for the schedules; None (a recording, which does not know when it was) has every rule on.

        Raises:
            SettingsError: parameters of a rule cannot be used.
        """
        self._wall = wall
        self.refused: list[str] = []
        """Why a rule does not run with this network, in words."""
        self._rules: list[tuple[Schedule, SoundEvent]] = []
        for rule in rules:
            event = sound_event(rule, model)
            if isinstance(event, str):
                self.refused.append(event)
            else:
                self._rules.append((Schedule(rule.schedule), event))

    def __len__(self) -> int:
        return len(self._rules)

    def update(self, hearing: Hearing) -> list[EpisodeChange]:
        """What changes with this hearing, rule by rule; a rule whose time is over ends what it has open."""
        now = self._wall() if self._wall else None
        changes: list[EpisodeChange] = []
        for schedule, event in self._rules:
            on = now is None or schedule.on(now)
            changes.extend(event.update(hearing) if on else event.close(hearing.time))
        return changes

    def close(self, time: float) -> list[EpisodeChange]:
        """End every episode; safe to call again."""
        return [change for _, event in self._rules for change in event.close(time)]
