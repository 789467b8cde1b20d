"""The rotation as a pure state machine: what is known goes in, the next move comes out.

    planned -> creating -> created -> validated -> staged -> promoting (wave by wave)
      -> draining -> revoking (no way back from here) -> revoke_verified -> completed

    creating -> reconciling -> created       the answer to the create was lost
    any state before revoking -> rolling_back -> rolled_back
    any open state -> held -> where it was | rolling_back | revoking

Nothing here reads a clock, a table or a provider. A worker gathers what it
sees, asks `decide`, does what it is told, and asks again; so a worker that
takes over after a crash needs the row and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from keyvault.rotation.states import (
    ALLOWED,
    ENDS,
    POINT_OF_NO_RETURN,
    REVERSIBLE,
    Cause,
    Choice,
    Old,
    Progress,
    State,
)

__all__ = [
    "ALLOWED",
    "ENDS",
    "POINT_OF_NO_RETURN",
    "REVERSIBLE",
    "Cause",
    "Choice",
    "Do",
    "Go",
    "Move",
    "Old",
    "Part",
    "Progress",
    "Seen",
    "State",
    "Step",
    "Terms",
    "Wait",
    "choices",
    "decide",
]

_OPEN_TO_GOING_ON = frozenset({State.PROMOTING, State.DRAINING})


class Step(StrEnum):
    """What a worker can be told to do. Each is safe to repeat."""

    CREATE = "create"
    VALIDATE = "validate"
    STAGE = "stage"
    PROMOTE = "promote"
    TRY_OLD = "try_old"
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
    """

    grace_s: float
    quiet_s: float
    overlap_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """One dependent as the machine sees it. `has_new`: it was given the new version."""

    wave: int
    progress: Progress
    has_new: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that is known at one moment, by the database's clock.

    since_s: seconds in this state and wave. silent_s: seconds that the old version has
    been silent; None where use cannot be observed. is_promoted: the new version is the
    key's current one. may_go_on: a named person has approved to go on whatever is seen.
    is_back: every dependent that had the new version has left it again.
    is_being_written: the old version is on its way to a place, apart from this rotation.
    """

    state: State
    terms: Terms
    wave: int = 0
    parts: Sequence[Part] = ()
    since_s: float = 0.0
    old: Old = Old.UNTRIED
    silent_s: float | None = 0.0
    key_lives: bool = True
    is_promoted: bool = False
    wants_back: bool = False
    may_go_on: bool = False
    is_back: bool = True
    is_being_written: bool = False

    def in_wave(self) -> list[Part]:
        """Return the dependents of the wave that runs."""
        return [part for part in self.parts if part.wave == self.wave]

    @property
    def waves(self) -> list[int]:
        """Return the waves that somebody stands in, in order."""
        return sorted({part.wave for part in self.parts}) or [0]

    @property
    def is_last_wave(self) -> bool:
        """Whether nobody moves after the wave that runs."""
        return self.wave == self.waves[-1]


_DONE = frozenset({Progress.CONFIRMED, Progress.EXCUSED})
_UNGIVEN = frozenset({Progress.WAITING, Progress.WRITING})
_POLL_S, _POLL_MOST_S = 1.0, 15.0


def decide(seen: Seen) -> Move:
    """Return the next move; None at the end and while a person must choose."""
    if seen.state in ENDS or seen.state is State.HELD:
        return None
    if seen.state in REVERSIBLE and not seen.key_lives:
        return Go(State.ROLLING_BACK, cause=Cause.KEY_ENDED)
    if seen.state in REVERSIBLE and seen.wants_back:
        return _back_or_hold(seen, Cause.ASKED)
    return _MOVES[seen.state](seen)


def choices(seen: Seen) -> frozenset[Choice]:
    """Return what a person may choose for a rotation that is held in `seen.state`.

    Nothing goes back to a credential that died, and a credential that works is
    not ended over those who use it before all of them could have had the new one.
    """
    found = {Choice.EXTEND}
    if seen.state in REVERSIBLE and seen.old is not Old.INVALID:
        found.add(Choice.ROLL_BACK)
    is_out = seen.is_promoted and seen.is_last_wave
    if seen.state in _OPEN_TO_GOING_ON and (is_out or seen.old is Old.INVALID):
        found.add(Choice.GO_ON)
    if seen.state is State.ROLLING_BACK:
        found.add(Choice.GO_ON)
    return frozenset(found)


def _planned(seen: Seen) -> Move:
    """Begin, unless a place is just getting the version that is to be left."""
    return _wait_or_hold(seen, Cause.BUSY) if seen.is_being_written else Go(State.CREATING)


def _creating(_seen: Seen) -> Move:
    return Do(Step.CREATE)


def _created(_seen: Seen) -> Move:
    return Do(Step.VALIDATE)


def _validated(_seen: Seen) -> Move:
    return Do(Step.STAGE)


def _staged(seen: Seen) -> Move:
    return Go(State.PROMOTING, wave=seen.waves[0])


def _promoting(seen: Seen) -> Move:
    """Give the wave its version; go on when all have it and the old one still works."""
    wave = seen.in_wave()
    if not seen.may_go_on and any(part.progress is Progress.FAILED for part in wave):
        return _back_or_hold(seen, Cause.FAILED)
    later = [number for number in seen.waves if number > seen.wave]
    is_label_due = not later and not seen.is_promoted
    if is_label_due or any(part.progress in _UNGIVEN for part in wave):
        return Do(Step.PROMOTE)
    if not seen.may_go_on and not all(part.progress in _DONE for part in wave):
        return _wait_or_hold(seen, Cause.UNCONFIRMED)
    if seen.old is Old.UNTRIED:
        return Do(Step.TRY_OLD)
    if later and seen.old is Old.INVALID and not seen.may_go_on:
        return Go(State.HELD, cause=Cause.OLD_DIED)
    return Go(State.PROMOTING, wave=later[0]) if later else Go(State.DRAINING)


def _draining(seen: Seen) -> Move:
    """Let the old version run out: everybody confirmed, caches expired, silent for a while."""
    if seen.may_go_on:
        return Go(State.REVOKING)
    if not all(part.progress in _DONE for part in seen.parts):
        return _wait_or_hold(seen, Cause.UNCONFIRMED)
    if seen.since_s < seen.terms.overlap_s:
        return Wait(min(seen.terms.overlap_s - seen.since_s, _POLL_MOST_S))
    if seen.silent_s is None:
        return Go(State.HELD, cause=Cause.UNOBSERVED)
    if seen.silent_s < seen.terms.quiet_s:
        # Looked at again and again: some providers remember nothing of a session that is closed.
        return _wait_or_hold(seen, Cause.UNCONFIRMED)
    return Go(State.REVOKING)


def _revoking(_seen: Seen) -> Move:
    return Do(Step.REVOKE_OLD)


def _revoke_verified(_seen: Seen) -> Move:
    return Do(Step.FINISH)


def _rolling_back(seen: Seen) -> Move:
    """Lead everybody back to the old version, and end the new one only when nobody has it."""
    is_given = any(part.has_new for part in seen.parts) and not seen.may_go_on
    if seen.key_lives and (seen.is_promoted or is_given):
        return Do(Step.FALL_BACK)
    if seen.key_lives and not seen.is_back and not seen.may_go_on:
        return _wait_or_hold(seen, Cause.UNCONFIRMED)
    return Do(Step.REVOKE_NEW)


def _wait_or_hold(seen: Seen, cause: Cause) -> Move:
    """Look again soon, more seldom with time, until the grace is over."""
    left = seen.terms.grace_s - seen.since_s
    if left <= 0:
        return Go(State.HELD, cause=cause)
    return Wait(min(max(_POLL_S, seen.since_s / 10), _POLL_MOST_S, left))


def _back_or_hold(seen: Seen, cause: Cause) -> Move:
    if seen.old is Old.UNTRIED:
        return Do(Step.TRY_OLD)
    if seen.old is Old.INVALID:
        return Go(State.HELD, cause=Cause.OLD_DIED)
    return Go(State.ROLLING_BACK, cause=cause)


_MOVES = {
    State.PLANNED: _planned,
    State.CREATING: _creating,
    State.RECONCILING: _creating,
    State.CREATED: _created,
    State.VALIDATED: _validated,
    State.STAGED: _staged,
    State.PROMOTING: _promoting,
    State.DRAINING: _draining,
    State.REVOKING: _revoking,
    State.REVOKE_VERIFIED: _revoke_verified,
    State.ROLLING_BACK: _rolling_back,
}
