"""The desired configuration: taken, tried, and taken back when the device is worse with it.

One small file in the journal's folder says which document is in force, which is on trial and what was told; it is
replaced whole (written beside it, synced, renamed, the folder synced), so whatever happens the device has one whole
configuration: the device's own files, with or without one signed document.

    local ──document──► trial ──sense is ready, no camera lost──► applied
                          └──refused, worse, too late, interrupted twice──► rolled_back

The trial stands in the file, so that a power cut in it is known at the next start: it is tried once more, and a second
time not. A technician's edit of the device's own files raises `local_version` and puts a document that did not know it
out of force (`diverged`), until a manager signs one that names the new number.

A document is in force in both processes or in none: sense confirms that it has taken it, and what sense says before
that is of the zones before.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.command import Reason, Refused, Reported, stamp
from agent.contract import BootId
from agent.desired import changeable, local_words, with_wanted
from agent.durable import replace_file
from agent.settings import Settings, SettingsError
from agent.trust import TrustFile, check_desired

log = logging.getLogger(__name__)

#: Name of the file in the journal's folder.
FILE = "configuration.json"
#: Starts of relay in which one document is tried.
TRIES = 2

#: Reasons that may be gone when the same document comes again.
_PASSING: frozenset[Reason | None] = frozenset({"clock", "key_not_valid", "unknown_key"})

Outcome = Literal["local", "trial", "applied", "rolled_back", "rejected", "diverged"]


class Kept(BaseModel):
    """What the file says.

    Attributes:
        local: SHA-256 of what a technician has written of cameras and microphone.
        local_version: Counts his edits.
        accepted: The document in force, as it came.
        trial: The document on trial.
        tries: In how many starts of relay it was tried.
        before: What was wrong with the device before the trial.
        confirmed: Whether sense runs by what is in force or on trial, as far as relay knows.
        highest: The highest version that was tried.
        state: What became of the latest document.
        reason: Why it is not applied.
        version: Its version.
        document: Its SHA-256.
        time: When it came to be so.
    """

    model_config = ConfigDict(extra="forbid")

    local: str
    local_version: int = Field(1, ge=1)
    accepted: str | None = None
    trial: str | None = None
    tries: int = 0
    before: frozenset[str] = frozenset()
    confirmed: bool = True
    highest: int = 0
    state: Outcome = "local"
    reason: Reason | None = None
    version: int | None = None
    document: str | None = None
    time: str


class Configuration:
    """The configuration of one device, over the device's own files."""

    def __init__(
        self, folder: Path, own: Settings, trust: TrustFile, boot: BootId, wall: Callable[[], dt.datetime]
    ) -> None:
        """Read what is in force, take up a trial that was interrupted, and see whether a technician was here.

        Args:
            folder: Where the file lies: the journal's.
            own: The settings of the device's own files.
            trust: Who may sign a document.
            boot: Id of this start.
            wall: Aware wall time.

        Raises:
            OSError: the file cannot be written.
        """
        self._path = folder / FILE
        self._own = own
        self._trust = trust
        self._boot = boot
        self._wall = wall
        self._target = f"{own.device.site}/{own.device.name}"
        local = hashlib.sha256(local_words(own)).hexdigest()
        self._kept = self._read(local)
        self._void = False
        self.settings, self._in_force = self._effective()
        """The settings by which sense should run."""
        kept = self._kept
        if kept.local != local:
            kept.local, kept.local_version = local, kept.local_version + 1
            self._set_aside()
        elif kept.trial is not None:
            kept.tries += 1
            if kept.tries > TRIES:
                self.roll_back("interrupted")
        self._write()

    def _read(self, local: str) -> Kept:
        """What the file says; as new where there is none that can be read."""
        try:
            return Kept.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValidationError) as error:
            log.error("event=configuration_lost file=%s reason=%r", self._path, str(error))  # noqa: TRY400
        return Kept(local=local, time=stamp(self._wall()))

    def _write(self) -> None:
        """Replace the file whole."""
        replace_file(self._path, self._kept.model_dump_json().encode())

    def _effective(self) -> tuple[Settings, int | None]:
        """Settings and version of what is on trial or in force; a document that nobody trusted signed any more is void.

        It is kept, so that it is in force again once the trust file is in order again.
        """
        self._void = False
        text = self.document
        if text is None:
            return self._own, None
        try:
            found = check_desired(text.encode(), self._target, self._trust.current(), None)
            return with_wanted(self._own, found.settings), found.version
        except (Refused, SettingsError) as error:
            log.error("event=document_void reason=%r", str(error))  # noqa: TRY400 - the reason says it all
            self._kept.confirmed = False
            self._say("rejected", error.reason if isinstance(error, Refused) else "settings")
        if self._kept.trial is not None:
            self._kept.trial = None
            return self._effective()
        self._void = True
        return self._own, None

    def _set_aside(self) -> None:
        """A technician was here: what a manager wanted before does not know of it."""
        kept = self._kept
        if kept.accepted is None and kept.trial is None:
            return
        kept.accepted = kept.trial = None
        kept.confirmed = False
        self._say("diverged")
        self.settings, self._in_force = self._own, None
        log.warning("event=diverged local_version=%d hint=the_devices_own_files_were_edited", kept.local_version)

    def _say(self, state: Outcome, reason: Reason | None = None) -> None:
        self._kept.state, self._kept.reason, self._kept.time = state, reason, stamp(self._wall())

    @property
    def document(self) -> str | None:
        """The document by which sense should run; None: by the device's own files."""
        if self._void:
            return None
        return self._kept.trial if self._kept.trial is not None else self._kept.accepted

    @property
    def on_trial(self) -> bool:
        """Whether it is to be seen whether the device is well with it."""
        return self._kept.trial is not None

    @property
    def before(self) -> frozenset[str]:
        """What was wrong with the device before the trial."""
        return self._kept.before

    @property
    def confirmed(self) -> bool:
        """Whether sense runs by it, as far as relay knows."""
        return self._kept.confirmed

    def take(self, payload: bytes, now: dt.datetime | None, faults: frozenset[str]) -> bool:
        """Take what has come on `config/desired`; whether sense is to run by another document now.

        Args:
            payload: As it came.
            now: Aware wall time; None while nobody knows it.
            faults: What is wrong with the device at present.

        Raises:
            OSError: it cannot be kept; nothing has changed.
        """
        digest = hashlib.sha256(payload).hexdigest()
        kept = self._kept
        if self._void and kept.accepted is not None and digest == hashlib.sha256(kept.accepted.encode()).hexdigest():
            return self._revive()
        if digest == kept.document and kept.reason not in _PASSING:
            return False  # it comes again with every connection
        before = kept.model_copy()
        kept.document, kept.version = digest, _version(payload)
        try:
            trial = self._check(payload, now)
        except Refused as refused:
            log.warning("event=configuration_refused reason=%r", str(refused))
            self._say("diverged" if refused.reason == "local_edit" else "rejected", refused.reason)
            trial = None
        if trial is not None:
            kept.trial, kept.tries, kept.confirmed = payload.decode(), 1, False
            kept.before = faults
            kept.highest = kept.version or 0
            self._say("trial")
        try:
            self._write()
        except OSError:
            self._kept = before
            raise
        if trial is None:
            return False
        self.settings, self._in_force = trial, kept.version
        log.info("event=configuration_on_trial version=%s", kept.version)
        return True

    def _revive(self) -> bool:
        """Put the accepted document in force again if it is not void any more; whether it is so."""
        self.settings, self._in_force = self._effective()
        if self._void:
            return False
        self._kept.confirmed = False
        self._say("applied")
        self._write()
        return True

    def _check(self, payload: bytes, now: dt.datetime | None) -> Settings:
        """The settings with a new document.

        Raises:
            Refused: it cannot be tried.
        """
        if now is None:
            raise Refused("clock", "the device's clock is not set")
        found = check_desired(payload, self._target, self._trust.current(), now)
        if found.version <= self._kept.highest:
            raise Refused("older_version", f"version {found.version}; {self._kept.highest} was tried already")
        if found.local_version < self._kept.local_version:
            raise Refused("local_edit", f"it knows local version {found.local_version} of {self._kept.local_version}")
        try:
            settings = with_wanted(self._own, found.settings)
        except SettingsError as error:
            raise Refused("settings", str(error)) from None
        self._kept.local_version = max(self._kept.local_version, found.local_version)
        return settings

    def confirm(self) -> None:
        """Sense runs by the document from now on."""
        if not self._kept.confirmed:
            self._kept.confirmed = True
            self._write()

    def accept(self) -> None:
        """The device is well with what is on trial."""
        kept = self._kept
        kept.accepted, kept.trial, kept.tries = kept.trial, None, 0
        self._say("applied")
        self._write()
        log.info("event=configuration_applied version=%s", kept.version)

    def roll_back(self, reason: Reason) -> None:
        """What is on trial goes, and what was before comes back."""
        kept = self._kept
        kept.trial, kept.tries, kept.confirmed = None, 0, False
        self._say("rolled_back", reason)
        self.settings, self._in_force = self._effective()
        self._write()
        log.warning("event=configuration_rolled_back version=%s reason=%s", kept.version, reason)

    def reject(self) -> None:
        """Sense does not take what is on trial, and has changed nothing."""
        self.roll_back("settings")
        self._say("rejected", "settings")
        self._write()

    def give_up(self) -> None:
        """Sense refuses what is in force; the device's own files remain."""
        self._kept.accepted = None
        self._kept.confirmed = False
        self._say("rejected", "sense")
        self.settings, self._in_force = self._own, None
        self._write()

    def reported(self) -> Reported:
        """What is told on `config/reported`."""
        kept = self._kept
        return Reported(
            boot=self._boot,
            state=kept.state,
            reason=kept.reason,
            version=kept.version,
            document=kept.document,
            in_force=self._in_force,
            config=self.settings.digest(),
            local_version=kept.local_version,
            settings=changeable(self.settings),
            time=kept.time,
        )


def _version(payload: bytes) -> int | None:
    """The version that a document claims, to tell which one is meant."""
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        version = json.loads(payload).get("version")
        if isinstance(version, int) and not isinstance(version, bool) and 1 <= version < 2**53:
            return version
    return None
