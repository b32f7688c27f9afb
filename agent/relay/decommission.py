"""The end of a device: what it still has to say, its last word, and the erasing of keys, journal and configuration.

The last word is a signed one: the audit log gets its last entry, and the head over it, which says that it is the final
one, is left with the broker beside the status `decommissioned`. Whoever keeps heads can prove that the log ended there,
by the device's own will. Then everything goes by which it could be the device again; the keys first, so that a power
cut leaves no half device that still can speak.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent.canonical import canonical
from agent.contract import Status, topic
from agent.relay.audit import head_line
from agent.relay.certificate import CertificateError, Certificates
from agent.relay.journal import Journal, JournalBusyError, JournalError, JournalFullError
from agent.relay.mqtt import Acknowledged, Connected, Disconnected, Link, MqttError
from agent.relay.process import open_journal
from agent.settings import Settings

#: Where systemd puts what it hands over to relay; it is there only while relay runs.
_CREDENTIALS = Path("/run/credentials")


@dataclass(frozen=True, slots=True)
class Told:
    """What the broker knows of the end.

    Attributes:
        reason: Why it has no last word; None where it has.
        undelivered: Events that it does not get; None: unknown.
    """

    reason: str | None
    undelivered: int | None = None


def last_word(settings: Settings, certificates: Certificates, wait_s: float) -> Told:
    """Take leave of the broker.

    Args:
        settings: The device's own.
        certificates: Where its keys are.
        wait_s: Longest time for it, seconds.

    Raises:
        JournalBusyError: the agent runs; nothing was said.
    """
    journal: Journal | None = None
    try:
        found = at_rest(settings, certificates)
        journal = open_journal(found)
        site, device = found.device.site, found.device.name
        link = Link(found.mqtt, site, device, journal.boot)
        return Told(LastWord(journal, link, site, device).say(wait_s), journal.depth)
    except JournalBusyError:
        raise
    except (CertificateError, JournalError, MqttError) as error:
        return Told(str(error), None if journal is None else journal.depth)
    finally:
        if journal is not None:
            journal.close()


def at_rest(settings: Settings, certificates: Certificates) -> Settings:
    """The settings with the keys where they lie while relay does not run; a sealed one is opened into memory.

    Raises:
        CertificateError: it cannot be opened.
    """

    def lies(path: Path | None) -> Path | None:
        if path is None or _CREDENTIALS not in path.parents:
            return path
        there = certificates.folder / path.name
        if there.exists() or not there.with_name(f"{there.name}.cred").exists():
            return there
        memory = os.memfd_create(path.name)
        os.write(memory, certificates.private_pem())
        os.fchmod(memory, 0o600)
        return Path(f"/proc/self/fd/{memory}")

    mqtt = {name: lies(getattr(settings.mqtt, name)) for name in ("ca_file", "cert_file", "key_file", "password_file")}
    audit = {"key_file": lies(settings.audit.key_file)}
    return settings.model_copy(
        update={"mqtt": settings.mqtt.model_copy(update=mqtt), "audit": settings.audit.model_copy(update=audit)}
    )


@dataclass(slots=True)
class LastWord:
    """The last connection of a device.

    Attributes:
        journal: Its journal, of which nobody else has a hold.
        link: Its connection, not started.
        site: Its site.
        device: Its name.
    """

    journal: Journal
    link: Link
    site: str
    device: str
    _under_way: dict[int, int] = field(default_factory=dict)  # events, by message
    _words: set[int] = field(default_factory=set)
    _connected: bool = False
    _said: bool = False
    _last: int = 0
    _reason: str = "no connection"

    def say(self, wait_s: float) -> str | None:
        """Deliver what still waits, for half of the time at most, and take leave; why the broker does not have it.

        Args:
            wait_s: Longest time, seconds.
        """
        self.link.start()
        began = time.monotonic()
        try:
            if self.journal.holds:
                self.journal.settle(None)
            while (left := began + wait_s - time.monotonic()) > 0:
                self._take()
                if self._connected and not self._said:
                    self._deliver()
                    if not self.journal.depth or left < wait_s / 2:
                        self._take_leave()
                if self._said and not self._words:
                    return None
                select.select([self.link.wake], [], [], min(left, 0.25))
        except JournalFullError as error:
            return str(error)
        finally:
            self.link.stop()
        return self._reason

    def _take(self) -> None:
        for happening in self.link.happenings():
            if isinstance(happening, Connected):
                self._connected, self._said, self._last = True, False, 0
                self._reason = "the broker does not acknowledge it"
                self._under_way.clear()
                self._words.clear()
            elif isinstance(happening, Disconnected):
                self._connected, self._reason = False, happening.reason
            elif isinstance(happening, Acknowledged):
                event = self._under_way.pop(happening.message, None)
                if happening.refused is not None:
                    self._reason = f"the broker refuses it: {happening.refused}"
                elif event is not None:
                    self.journal.acknowledged([event])
                else:
                    self._words.discard(happening.message)

    def _deliver(self) -> None:
        rows = self.journal.waiting(self._last, self.link.window - len(self._under_way))
        if rows:
            self.journal.attempted(rows)
        for row in rows:
            message = self.link.publish(row.topic, row.payload)
            if message is None:
                return
            self._under_way[message] = row.seq
            self._last = row.seq

    def _take_leave(self) -> None:
        status = Status(state="decommissioned", boot=self.journal.boot).model_dump_json(exclude_none=True)
        self.journal.record("decommissioned", canonical({"undelivered": self.journal.depth}).decode())
        self.journal.record("status", status)
        head = head_line(self.journal.publish_head(final=True))
        for levels, payload in ((("status",), status.encode()), (("audit", "head"), head)):
            message = self.link.publish(topic(self.site, self.device, *levels), payload, retain=True)
            if message is None:
                return
            self._words.add(message)
        self._said = True


def belongings(settings: Settings, config: Path, keys: Path) -> Iterator[Path]:
    """Every file by which the device could be itself again: keys, journal, and last the configuration.

    So whoever is interrupted can begin again.

    Args:
        settings: Its own, as its files have them.
        config: Its configuration file.
        keys: Folder of its keys.
    """
    named = (settings.mqtt.key_file, settings.mqtt.password_file, settings.audit.key_file, settings.mqtt.cert_file)
    found = [
        *_files(keys),
        *(path for path in named if path is not None and _CREDENTIALS not in path.parents),
        *_files(settings.journal.folder),
        settings.fleet.trust_file,
        settings.policy_file,
        *sorted(config.parent.glob("camera-*.env")),
        *sorted(config.with_name(f"{config.name}.d").glob("*.toml")),
        config,
    ]
    for path in dict.fromkeys(found):
        if path.is_file() or path.is_symlink():
            yield path


def _files(folder: Path) -> Iterator[Path]:
    """Keys are the first."""
    found = [Path(where, name) for where, _, names in os.walk(folder) for name in names]
    yield from sorted(found, key=lambda path: (path.suffix not in {".key", ".cred"}, path))
