"""Relay's ear for the technician's view (`agent.word`): it records who looks through the camera, and can end it."""

from __future__ import annotations

import contextlib
import logging
import pwd
import selectors
import socket
from collections.abc import Callable
from pathlib import Path

from agent import pipe
from agent.canonical import canonical
from agent.relay.journal import JournalFullError
from agent.settings import AIM_USER
from agent.word import MAX_WORD, Answer, Begin, WordError, parse_word

log = logging.getLogger(__name__)


class Aiming:
    """The view of this device, if there is one.

    Attributes:
        active: Whether it is recorded that a view has begun and not that it has ended.
        saved: Whether one that has ended has changed the device's own files.
    """

    def __init__(
        self,
        path: Path,
        selector: selectors.BaseSelector,
        record: Callable[[str], None],
        forbidden: Callable[[], str | None],
    ) -> None:
        """Listen.

        Args:
            path: Of the socket.
            selector: Calls what is registered when there is something to read.
            record: Puts a body of kind `aiming` into the audit log; raises JournalFullError.
            forbidden: Why nobody may look now, in words; None when somebody may.

        Raises:
            PipeError: the socket cannot be made.
        """
        self._path = path
        self._selector = selector
        self._record = record
        self._forbidden = forbidden
        self._view: socket.socket | None = None
        self._unrecorded = False
        self.active = False
        self.saved = False
        self._changed = False
        self._listener = pipe.listen(path)
        selector.register(self._listener, selectors.EVENT_READ, self._on_newcomer)

    def _on_newcomer(self) -> None:
        connection, _ = self._listener.accept()
        try:
            pipe.check_peer(connection, _uid_of(AIM_USER))
        except OSError as error:
            log.warning("event=stranger_refused socket=word reason=%r", str(error))
            return
        if self._view is not None:
            _say(connection, Answer(answer="refused", reason="another view is open"))
            connection.close()
            return
        self._view = connection
        self._selector.register(connection, selectors.EVENT_READ, self._on_word)

    def _on_word(self) -> None:
        assert self._view is not None  # noqa: S101 - it is registered only while it is there
        try:
            packet = self._view.recv(MAX_WORD + 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except ConnectionError:
            packet = b""
        if not packet:
            self.end()
            return
        _say(self._view, self._answer(packet))

    def _answer(self, packet: bytes) -> Answer:
        try:
            word = parse_word(packet)
        except WordError as error:
            log.warning("event=word_refused reason=%r", str(error))
            return Answer(answer="refused", reason="no word of this version")
        begins = isinstance(word, Begin)
        forbidden = self._forbidden()
        if forbidden is None and begins == self.active:
            forbidden = "it has begun" if begins else "it has not begun"
        if forbidden is not None:
            return Answer(answer="refused", reason=forbidden)
        told: dict[str, object] = {"state": word.word}
        if isinstance(word, Begin):
            assert self._view is not None  # noqa: S101 - somebody has said it
            told |= {"by": _name_of(pipe.peer_uid(self._view)), "minutes": word.minutes}
        else:
            told["by"] = _name_of(word.uid)
        try:
            self._record(canonical(told).decode())
        except JournalFullError:
            return Answer(answer="refused", reason="the audit log cannot be written: the disk is full")
        self.active = True
        self._changed = self._changed or word.word == "save"
        return Answer(answer="recorded")

    def end(self) -> None:
        """Hang up, which ends the view, and record it; safe to call without one."""
        if self._view is not None:
            self._selector.unregister(self._view)
            self._view.close()
            self._view = None
            self._unrecorded = self.active
        self.settle()

    def settle(self) -> None:
        """Record an end that is not in the audit log yet."""
        if not self._unrecorded:
            return
        with contextlib.suppress(JournalFullError):
            self._record(canonical({"state": "end"}).decode())
            self._unrecorded = self.active = False
            self.saved, self._changed = self.saved or self._changed, False

    def close(self) -> None:
        """Stop listening."""
        self.end()
        self._selector.unregister(self._listener)
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def _say(connection: socket.socket, answer: Answer) -> None:
    with contextlib.suppress(OSError):
        connection.send(answer.model_dump_json().encode(), socket.MSG_DONTWAIT)


def _uid_of(user: str) -> frozenset[int]:
    try:
        return frozenset({pwd.getpwnam(user).pw_uid})
    except KeyError:
        return frozenset()


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
