"""The judge of a release on trial: it must be ready, and stay so, or the old one comes back.

It runs from the committed release, as a unit of its own, so that neither a release that cannot start nor a lost SSH
connection ends it. What counts as ready is what relay says on its local socket, and that nothing of the agent is
started anew meanwhile: sense that hangs is killed by its watchdog after 30 s, so that a hold above that sees it.

A release need not be better than the one before it: a device that was degraded for a camera that is unplugged, or has
no broker, can be updated all the same; one that is degraded for anything new is not ready.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.device.services import ServiceError
from agent.device.slots import Before, Last, Slots, Trial

log = logging.getLogger(__name__)

#: Looks at the agent so often, seconds.
EVERY_S = 1.0
#: Of the states of `Status`, from the best on; any other is none that a trial may end in.
_ORDER = ("ready", "paused", "degraded")


@dataclass(frozen=True, slots=True)
class Look:
    """How the agent is at one moment.

    Attributes:
        state: Of `Status`, or `unknown`.
        reasons: Of `Status`.
        broker: Whether it is connected.
        starts: What changes whenever a part is started anew.
        failed: A part that systemd has given up.
        why: Why nothing is known of it.
    """

    state: str
    reasons: tuple[str, ...] = ()
    broker: bool = False
    starts: tuple[str, ...] = ()
    failed: str | None = None
    why: str = ""

    def before(self) -> Before:
        """What a trial that begins now is compared with."""
        return Before(self.state, self.reasons, self.broker)


def understood(document: bytes, starts: tuple[str, ...], failed: str | None) -> Look:
    """How an agent is by what its local socket says, which a later release than this one may have written.

    Args:
        document: What it says; whatever else it says is nothing to us.
        starts: As of `Look`.
        failed: As of `Look`.
    """
    try:
        said = json.loads(document)
        status = said["status"]
        return Look(str(status["state"]), tuple(status["reasons"]), said["broker"] is not None, starts, failed)
    except (ValueError, KeyError, TypeError):
        return Look("unknown", starts=starts, failed=failed, why="what it says of itself cannot be understood")


class Agent(Protocol):
    """The running agent, as the judge sees it."""

    def look(self) -> Look:
        """How it is now."""

    def reload(self) -> None:
        """Have systemd read its units again."""

    def restart(self) -> None:
        """Start it anew."""

    def forget(self) -> None:
        """Remove what no release has any more."""


def lacking(look: Look, before: Before) -> str | None:
    """What keeps an agent from being as good as it was; None when nothing does.

    Args:
        look: How it is.
        before: How it was.
    """
    if look.state not in _ORDER:
        return look.why or f"it is {look.state}"
    new = sorted(set(look.reasons) - set(before.reasons))
    if new:
        return f"it is {look.state}: {', '.join(new)}"
    if look.state == "paused" and before.state != "paused":
        return "it is paused, and was not"
    if before.broker and not look.broker:
        return "it has not reached the broker"
    return None


def judge(
    slots: Slots,
    agent: Agent,
    told: Callable[[str, float], None],
    *,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Last | None:
    """See a trial to its end.

    Args:
        slots: The releases.
        agent: The running agent.
        told: Told how it stands, and the share of the hold that is done.
        now: Monotonic time, seconds.
        sleep: Waits.

    Returns:
        How it ended; None when there is none, or somebody else ends it.
    """
    trial = slots.state().trial
    if trial is None:
        return None
    deadline = now() + trial.within_s
    since: float | None = None
    starts: tuple[str, ...] = ()
    said = ""
    while True:
        look = agent.look()
        if slots.state().trial is None:
            return None
        missing = lacking(look, trial.before)
        if look.failed is not None:
            return end(slots, agent, trial, look.failed)
        if missing is not None or look.starts != starts:
            since, starts = None, look.starts
        elif since is None:
            since = now()
        held = 0.0 if since is None else now() - since
        if held >= trial.hold_s and not trial.by_hand:
            return end(slots, agent, trial, None)
        word = missing or ("ready" if held < trial.hold_s else "ready, and waits for vigie update commit")
        told(word, min(1.0, held / trial.hold_s) if trial.hold_s else 1.0)
        if word != said:
            log.info("event=trial version=%s state=%r", trial.version, word)
            said = word
        if now() >= deadline:
            late = f"not within {trial.within_s:.0f} s: "
            return end(slots, agent, trial, late + (missing or f"ready for {trial.hold_s:.0f} s without a break"))
        sleep(EVERY_S)


def end(slots: Slots, agent: Agent, trial: Trial, failure: str | None) -> Last | None:
    """Commit a trial, or let the old release come back.

    Args:
        slots: The releases.
        agent: The running agent.
        trial: Which.
        failure: Why it failed; None when it has not.
    """
    with slots.locked():
        state = slots.state()
        if state.trial is None or state.trial.version != trial.version:
            return None
        if failure is None:
            last = slots.commit(_praise(trial))
        else:
            last = slots.fall_back("failed", failure)
            agent.reload()
            agent.restart()
        tidy(slots, agent)
    log.info("event=trial_ended version=%s result=%s reason=%r", last.version, last.result, last.reason)
    return last


def tidy(slots: Slots, agent: Agent) -> None:
    """Remove releases and links that nothing needs; what cannot be removed now is the next installation's to remove."""
    try:
        slots.prune()
        agent.forget()
        agent.reload()
    except (OSError, ServiceError) as error:
        log.warning("event=not_tidied reason=%r", str(error))


def _praise(trial: Trial) -> str:
    if trial.before.state == "paused":
        return "as it was before: paused, so that no camera was tried"
    return f"as good as before for {trial.hold_s:.0f} s"
