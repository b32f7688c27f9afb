"""The disk: room for the journal, and how worn it is."""

from __future__ import annotations

from pathlib import Path

from agent.device.disk import nearest, room, wear
from agent.device.doctor.check import Finding, Findings, Patient, fail, ok, warn

#: Room that is scarce, bytes; below the least nothing can be released any more, since nothing could be recorded.
_SCARCE, _LEAST = 512 * 2**20, 16 * 2**20
#: Or this share of it, where the file system itself is small.
_SCARCE_SHARE, _LEAST_SHARE = 0.10, 0.02
_WORN, _WORN_OUT = 80, 100


def examine(patient: Patient) -> Findings:
    """Room where the journal is and on the root, wear of eMMC."""
    folders = dict.fromkeys((patient.settings.journal.folder, patient.root))
    seen = set()
    for folder in folders:
        device = nearest(folder).stat().st_dev
        if device not in seen:
            seen.add(device)
            yield _room(folder)
    for name, used in sorted(wear(patient.root).items()):
        found = f"{name} has used {used} % of its life"
        if used >= _WORN:
            judge = fail if used >= _WORN_OUT else warn
            yield judge("wear", found, "plan another disk, or another module; less is written with a shorter log")
        else:
            yield ok("wear", found)


def _room(folder: Path) -> Finding:
    found = room(folder)
    if found is None:
        return warn(str(folder), "cannot be looked at", f"ls -ld {folder}")
    free = f"{folder}: {found.share:.0%} free, {found.free / 2**30:.1f} GiB"
    if found.read_only:
        return fail(
            str(folder), f"{folder}: is mounted read-only", "dmesg | grep -i error; then sudo mount -o remount,rw /"
        )
    if found.free < min(_LEAST, _LEAST_SHARE * found.total):
        return fail(
            str(folder),
            f"{folder}: the disk is full, {found.free / 2**20:.1f} MiB free: nothing can be released",
            f"free some: sudo du -xh --max-depth=2 {folder.parent} | sort -h | tail; sudo journalctl --vacuum-size=50M",
        )
    if found.free < min(_SCARCE, _SCARCE_SHARE * found.total):
        return warn(str(folder), free, "sudo journalctl --vacuum-size=50M; sudo apt clean")
    return ok(str(folder), free)
