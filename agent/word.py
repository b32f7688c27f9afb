"""What the technician's view says to relay: that it begins, who looks, that zones were saved. Nothing of what it sees.

Relay listens on a socket beside that of `vigie status`; one message a packet. Each word is recorded in the audit log
before it is answered, and the view shows nothing before relay has recorded that it begins. The connection stands for as
long as the view does: relay records its end whatever ends it, and ends the view by hanging up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

MAX_WORD = 256
#: Longest that a view lasts, minutes.
MOST_MINUTES = 10


class _Word(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Begin(_Word):
    """The view is about to open the devices."""

    word: Literal["begin"] = "begin"
    minutes: int = Field(ge=1, le=MOST_MINUTES)


class Look(_Word):
    """Somebody with the token looks; who it is, the kernel has told (SO_PEERCRED)."""

    word: Literal["look"] = "look"
    uid: int = Field(ge=0, lt=2**32)


class Save(_Word):
    """The device's own zones are about to be changed."""

    word: Literal["save"] = "save"
    uid: int = Field(ge=0, lt=2**32)


AnyWord = Annotated[Begin | Look | Save, Field(discriminator="word")]


class Answer(_Word):
    """Relay's answer."""

    answer: Literal["recorded", "refused"]
    reason: str = Field("", max_length=100)


class WordError(ValueError):
    """A packet that is none of the words."""


_WORDS: TypeAdapter[Begin | Look | Save] = TypeAdapter(AnyWord)


def parse_word(packet: bytes) -> Begin | Look | Save:
    """The word in a packet.

    Raises:
        WordError: it is none.
    """
    try:
        return _WORDS.validate_json(packet)
    except ValidationError as error:
        raise WordError(f"no word: {error.errors()[0]['type']}") from None


def word_socket(status_socket: Path) -> Path:
    """Where relay listens for words: beside the socket of `vigie status`."""
    return status_socket.with_name("word.sock")
