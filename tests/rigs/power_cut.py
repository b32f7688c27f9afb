"""What runs in the virtual machine of `test_power_cut.py`: updates without end, and alarms in a process beside them.

They say on the serial line what they hold to be safe on the disk, as soon as they do. Only pip is replaced, by taking
the wheel apart, since it takes a minute where the processor is emulated.

Words on the kernel's command line: `rig.alarms` has alarms accepted (relay's part takes long to start there);
`rig.tree` leaves out the syncfs(2) of a new release and `rig.journal` the fsync(2) of the journal, faults that must be
found.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from whole import broken

from agent.device import install as installing
from agent.device import slots as under_test
from agent.device.bundle import read_keys, verify
from agent.device.slots import Before, Slots, Trial

RIG = Path("/rig")
JOURNAL = Path("/var/lib/vigie")
WORDS = Path("/proc/cmdline").read_text().split()


def say(*words: str) -> None:
    """One line on the serial line, in one write(2), whoever else speaks."""
    os.write(1, (" ".join(words) + "\n").encode())


def alarms() -> None:
    """Accept an alarm, and say so once it is safe, again and again."""
    from agent.contract import EventData, EventType
    from agent.relay.gate import Release
    from agent.relay.journal import Journal

    journal = Journal(JOURNAL, "rig", "cam", outbox_max_bytes=10**8, outbox_max_age_s=1e6, audit_max_bytes=10**8)
    if "rig.journal" in WORDS:
        journal._database.execute("PRAGMA synchronous = OFF")
    for number in itertools.count():
        now = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        data = EventData.model_validate(
            {"episode": f"{number:04x}", "phase": "started", "confidence": "high", "clock": "synced", "basis": "RIG"}
        )
        event = journal.release([Release(EventType.SOUND_SCREAM, data, now, alarm=True)])[0]
        say("ACCEPTED", event.id)
        time.sleep(0.05)


def updates() -> None:
    """Say what the last power cut has left, and go on."""
    say()  # ends the line that the firmware has begun
    installing._run = take_apart
    if "rig.tree" in WORDS:
        vars(under_test)["sync_tree"] = lambda _folder: None
    slots, keys = Slots(), read_keys(RIG / "release.pem")
    with slots.locked():
        slots.boot(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        state = slots.state()
        say("KEPT", *kept())
        if state.running is not None:
            say("RUNS", state.running, *(broken(slots, state.running) or ["whole"]))
        if "rig.alarms" in WORDS:
            subprocess.Popen(["/usr/bin/python3", "-B", __file__, "alarms"])
        while True:
            update(slots, keys)


def kept() -> Iterator[str]:
    """Alarms that the journal holds."""
    if (JOURNAL / "journal.sqlite").exists():
        with sqlite3.connect(JOURNAL / "journal.sqlite") as database:
            yield from (row[0] for row in database.execute("SELECT event_id FROM audit WHERE kind = 'released'"))


def update(slots: Slots, keys: dict[str, bytes]) -> None:
    """One update, to a release that is not kept."""
    if slots.state().phase == "trial":
        slots.commit("the power went during its trial")
    say("BEGINS")
    state = slots.state()
    not_now = {f"vigie-{version}-" for version in (state.running, state.previous)}
    bundle = next(b for b in sorted((RIG / "bundles").iterdir()) if not any(b.name.startswith(n) for n in not_now))
    manifest = verify(bundle, keys, lambda _done, _total: None)
    installing.install(bundle, manifest, slots, lambda step: say("STEP", step), lambda _done, _total: None)
    if state.running is None:
        slots.begin_first(manifest.version)
    else:
        slots.begin(Trial(manifest.version, 60, 1, by_hand=False, before=Before()))
        say("SWITCHED")
        slots.commit("it is a rig")
        slots.prune()
    say("ENDS")


_run = installing._run


def take_apart(*command: str) -> str:
    """In place of pip and of a first try: the wheels' files, where pip would put them."""
    if command[1] == "version":
        return f'"vigie": "{Path(command[0]).parents[1].name}"'
    if not command[2].endswith(".whl/pip"):
        return _run(*command)
    packages = next(Path(command[0]).parents[1].glob("lib/python3.*/site-packages"))
    for wheel in command:
        if wheel.endswith(".whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(packages)
    return ""


alarms() if sys.argv[1:] else updates()
