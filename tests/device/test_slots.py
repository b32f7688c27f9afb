from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import durable
from agent.device import slots as under_test
from agent.device.bundle import Manifest, Member
from agent.device.slots import BOOTS, Before, DiskFullError, Ending, Last, SlotError, Slots, Trial


def manifest(version: str, installed_bytes: int = 1000) -> Manifest:
    return Manifest(
        version,
        "x86_64",
        "x86_64",
        "3.11",
        "0" * 16,
        installed_bytes,
        (Member("wheels/a.whl", 1, hashlib.sha256(b"a").hexdigest()),),
    )


def put(slots: Slots, version: str) -> None:
    """A release that is whole."""
    folder = slots.make_room(manifest(version))
    (folder / "bin").mkdir()
    (folder / "bin" / "vigie").write_text(version)
    slots.complete(manifest(version))


TRIAL = Trial("0.2.0", 60.0, 5.0, by_hand=False, before=Before("degraded", ("camera",), broker=True))


def trial(version: str) -> Trial:
    return replace(TRIAL, version=version)


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Slots]:
    """A device with its first release."""
    made = Slots(tmp_path / "vigie")
    with made.locked():
        put(made, "0.1.0")
        made.begin_first("0.1.0")
        yield made


def test_a_device_without_a_release_says_so(tmp_path: Path) -> None:
    state = Slots(tmp_path / "vigie").state()
    assert (state.phase, state.running, state.whole) == ("none", None, ())


def test_the_first_release_is_committed_at_once(slots: Slots) -> None:
    state = slots.state()
    assert (state.phase, state.running, state.committed, state.previous) == ("settled", "0.1.0", "0.1.0", None)
    assert state.last == Last("0.1.0", "installed", "the first release")


def test_a_trial_that_is_committed_keeps_two_releases(slots: Slots) -> None:
    for old, new in (("0.1.0", "0.2.0"), ("0.2.0", "0.3.0")):
        put(slots, new)
        slots.begin(trial(new))
        state = slots.state()
        assert (state.phase, state.running, state.committed, state.trial) == ("trial", new, old, trial(new))
        slots.commit("well")
        slots.prune()
        state = slots.state()
        assert (state.phase, state.running, state.committed, state.previous) == ("settled", new, new, old)
        assert state.whole == (old, new)
        assert state.last == Last(new, "committed", "well")
        assert not (slots.root / "trial.json").exists()


def test_a_trial_that_fails_leaves_the_old_release_and_the_one_before(slots: Slots) -> None:
    put(slots, "0.2.0")
    slots.begin(trial("0.2.0"))
    slots.commit("well")
    put(slots, "0.3.0")
    slots.begin(trial("0.3.0"))
    slots.fall_back("failed", "it is slow")
    slots.prune()
    state = slots.state()
    assert (state.phase, state.running, state.previous, state.whole) == (
        "settled",
        "0.2.0",
        "0.1.0",
        ("0.1.0", "0.2.0"),
    )
    assert state.last == Last("0.3.0", "failed", "it is slow")


def test_a_release_on_trial_has_three_boots(slots: Slots) -> None:
    put(slots, "0.2.0")
    slots.begin(trial("0.2.0"))
    for number in range(BOOTS):
        assert slots.boot(f"boot-{number}") is None
        assert slots.boot(f"boot-{number}") is None, "the same boot counts once"
        assert slots.state().running == "0.2.0"
    ended = slots.boot("boot-last")
    assert ended is not None
    assert ended.result == "failed"
    assert slots.state().running == "0.1.0"
    assert slots.boot("boot-after") is None


def test_a_trial_that_nobody_can_judge_ends_at_the_next_boot(slots: Slots) -> None:
    put(slots, "0.2.0")
    slots.begin(trial("0.2.0"))
    (slots.root / "trial.json").write_bytes(b"{}")
    ended = slots.boot("boot-1")
    assert ended is not None
    assert ended.result == "failed"
    assert slots.state().running == "0.1.0"


def test_one_trial_at_a_time(slots: Slots) -> None:
    put(slots, "0.2.0")
    with pytest.raises(SlotError, match="no release is on trial"):
        slots.commit("well")
    with pytest.raises(SlotError, match="no release is on trial"):
        slots.fall_back("failed", "")
    slots.begin(trial("0.2.0"))
    with pytest.raises(SlotError, match="is on trial"):
        slots.make_room(manifest("0.3.0"))
    with pytest.raises(SlotError, match="is on trial"):
        slots.begin(trial("0.1.0"))


def test_what_is_not_whole_is_never_switched_to_and_goes_with_the_next_installation(slots: Slots) -> None:
    folder = slots.make_room(manifest("0.2.0"))
    (folder / "bin").mkdir()
    with pytest.raises(SlotError, match="is no whole release"):
        slots.begin(trial("0.2.0"))
    assert slots.state().whole == ("0.1.0",)
    put(slots, "0.2.0")
    assert slots.state().whole == ("0.1.0", "0.2.0")


def test_a_release_that_is_kept_is_not_installed_over(slots: Slots) -> None:
    with pytest.raises(SlotError, match="is here already"):
        slots.make_room(manifest("0.1.0"))
    assert slots.state().whole == ("0.1.0",)


def test_a_release_that_does_not_fit_the_disk_is_refused_before_anything_is_removed(slots: Slots) -> None:
    put(slots, "0.2.0")  # in nobody's way, and a failed trial may have left it
    with pytest.raises(DiskFullError, match="nothing has been changed"):
        slots.make_room(manifest("0.3.0", installed_bytes=1 << 60))
    assert slots.state().whole == ("0.1.0", "0.2.0")
    assert not slots.folder("0.3.0").exists()


def test_two_updates_at_once_are_refused(slots: Slots) -> None:
    with pytest.raises(SlotError, match="another update"), Slots(slots.root).locked():
        pass


def test_an_agent_that_was_installed_in_another_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "current" / "bin").mkdir(parents=True)
    with pytest.raises(SlotError, match="installed in another way"):
        Slots(tmp_path).state()


class _PowerCut(BaseException):
    """The moment at which everything ends."""


Write = Callable[..., None]


@pytest.mark.parametrize("ending", ["commit", "failed"])
@pytest.mark.parametrize("at", range(10))
def test_whatever_write_is_the_last_one_a_whole_release_runs_after_the_next_boot(
    slots: Slots, monkeypatch: pytest.MonkeyPatch, at: int, ending: str
) -> None:
    """Every durable write of an update is left out in turn, with all that would come after it."""
    left = [at]

    def cut(write: Write) -> Write:
        def writes(*arguments: object) -> None:
            if left[0] == 0:
                raise _PowerCut
            left[0] -= 1
            write(*arguments)

        return writes

    for name in ("replace_file", "replace_link", "sync_tree", "sync_folder"):
        monkeypatch.setattr(under_test, name, cut(getattr(durable, name)))
    steps = 0
    try:
        put(slots, "0.2.0")
        steps += 1
        slots.begin(trial("0.2.0"))
        steps += 1
        _end(slots, ending)
        steps += 1
    except _PowerCut:
        pass
    monkeypatch.undo()
    slots.boot("boot-1")
    state = slots.state()
    assert state.running in state.whole
    assert state.committed in state.whole
    assert state.running == state.committed or state.trial == replace(TRIAL, boots=("boot-1",))
    if steps == 0:
        assert state.running == "0.1.0"
    if steps == 3:
        assert state.running == ("0.2.0" if ending == "commit" else "0.1.0")
    if state.phase == "trial":
        _end(slots, ending)
    assert slots.state().phase == "settled"
    if slots.state().running == "0.1.0":
        put(slots, "0.2.0")  # and an update is possible again
        slots.begin(trial("0.2.0"))


def _end(slots: Slots, ending: str) -> None:
    if ending == "commit":
        slots.commit("well")
    else:
        result: Ending = "failed"
        slots.fall_back(result, "ill")
