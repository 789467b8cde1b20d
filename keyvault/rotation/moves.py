"""What the state machine of a rotation speaks of: its moves, its terms, and those who move with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from keyvault.rotation.states import Cause, Progress, State


class Step(StrEnum):
    """What a worker can be told to do. Each is safe to repeat."""

    CREATE = "create"
    VALIDATE = "validate"
    STAGE = "stage"
    PROMOTE = "promote"
    TRY_OLD = "try_old"
    SUSPEND_OLD = "suspend_old"
    RESUME_OLD = "resume_old"
    REVOKE_OLD = "revoke_old"
    FINISH = "finish"
    FALL_BACK = "fall_back"
    REVOKE_NEW = "revoke_new"


@dataclass(frozen=True, slots=True)
class Do:
    """Do a step, then ask again."""

    step: Step


@dataclass(frozen=True, slots=True)
class Go:
    """Enter a state; `wave` is set where a wave begins, `cause` where somebody must know why."""

    state: State
    wave: int | None = None
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before something changes; look again after at most `seconds`."""

    seconds: float


Move = Do | Go | Wait | None


@dataclass(frozen=True, slots=True)
class Terms:
    """What a rotation runs by, in seconds; a snapshot, so that an edit moves no running one.

    grace_s: the longest wait for dependents before a person is asked. quiet_s: how long
    the old version must be silent. overlap_s: the least time that both versions work.
    brownout_s: how long the old version is suspended before it is ended; 0 for not at all.
    brownout_most: how many who fail without it end that at once.
    """

    grace_s: float
    quiet_s: float
    overlap_s: float
    brownout_s: float = 0.0
    brownout_most: int = 1


@dataclass(frozen=True, slots=True)
class Part:
    """One dependent as the machine sees it. `has_new`: it was given the new version."""

    wave: int
    progress: Progress
    has_new: bool = False


DONE = frozenset({Progress.CONFIRMED, Progress.EXCUSED})
POLL_S, POLL_MOST_S = 1.0, 15.0


def wait_or_hold(grace_s: float, since_s: float, cause: Cause) -> Move:
    """Look again soon, more seldom with time, until the grace is over."""
    left = grace_s - since_s
    if left <= 0:
        return Go(State.HELD, cause=cause)
    return Wait(min(max(POLL_S, since_s / 10), POLL_MOST_S, left))
