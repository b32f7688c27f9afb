"""Published texts as data: which kinds of detection each names, which of them Vigie has, and where that was read.

A preset permits nothing. It is what a policy can be begun from (`vigie policy preset`), and what a policy that says
`follows = "NAME"` is held against: an entry for a kind of detection that the text does not name is refused.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.contract import Basis
from agent.settings import SettingsError, TypeLabel, did_you_mean, explain, read_toml

_FOLDER = Path(__file__).parent


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PresetEvent(_Table):
    """One kind of event that the text names."""

    en: str = Field(description="What the text says, in English.")
    fr: str = Field(description="What the text says, in French.")
    types: tuple[TypeLabel, ...] = Field((), description="Event types of Vigie that answer to it; none: not offered.")
    why_not: str = Field("", description="Why Vigie does not offer it.")

    @model_validator(mode="after")
    def _offered_or_not(self) -> PresetEvent:
        if bool(self.types) == bool(self.why_not):
            raise ValueError("either it has types, or why_not says why Vigie does not offer it")
        return self


class Preset(_Table):
    """One published text, or one common case, and what it allows to look for."""

    title: str = Field(description="Title, for the officer.")
    source: str = Field(description="Where the list was read.")
    date: dt.date = Field(description="Date of the source.")
    basis: Basis = Field(description="Reference for `legal_basis`; the officer adds the local decision.")
    purpose: str = Field(description="A first wording of the purpose.")
    ended: dt.date | None = Field(None, description="Last day of the text itself, where it has one.")
    note: str = Field(description="What the officer has to check before using it.")
    events: tuple[PresetEvent, ...] = Field(min_length=1, description="What the text names.")

    @property
    def types(self) -> tuple[str, ...]:
        """Every event type of Vigie that the text names, once."""
        return tuple(dict.fromkeys(label for event in self.events for label in event.types))


def preset_names() -> list[str]:
    """The names that `preset` knows."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def preset(name: str) -> Preset:
    """The preset with this name.

    Raises:
        SettingsError: there is none, or its file cannot be used.
    """
    if name not in preset_names():
        raise SettingsError([f"no preset is called {name!r}{did_you_mean(name, preset_names())}"])
    path = _FOLDER / f"{name}.toml"
    try:
        return Preset.model_validate(read_toml(path))
    except ValidationError as error:
        raise SettingsError([f"{path}: {line}" for line in explain(error, Preset)]) from None
