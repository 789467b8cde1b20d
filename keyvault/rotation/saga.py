"""The rotation as a pure state machine: what is known goes in, the next move comes out.

    planned -> creating -> created -> validated -> staged -> promoting (wave by wave)
      -> draining -> brownout (where it is wanted) -> revoking (no way back from here)
      -> revoke_verified -> completed

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

from keyvault.rotation import brownout
from keyvault.rotation.moves import (
    DONE,
    POLL_MOST_S,
    POLL_S,
    Do,
    Go,
    Move,
    Part,
    Step,
    Terms,
    Wait,
    wait_or_hold,
)
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

_UNGIVEN = frozenset({Progress.WAITING, Progress.WRITING})
_OPEN_TO_GOING_ON = frozenset({State.PROMOTING, State.DRAINING, State.BROWNOUT})


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that is known at one moment, by the database's clock.

    since_s: seconds in this state and wave. silent_s: seconds that the old version has
    been silent; None where use cannot be observed. is_promoted: the new version is the
    key's current one. may_go_on: a named person has approved to go on whatever is seen.
    is_back: every dependent that had the new version has left it again.
    settling_s: how long whoever reads at a place may yet go on with what lay there before.
    is_being_written: the old version is on its way to a place, apart from this rotation.
    can_suspend: the provider can switch the old version off and on. is_suspended: it is
    switched off, perhaps. browned_s: seconds since it is for certain. misses: how many have
    failed without it.
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
    settling_s: float = 0.0
    is_being_written: bool = False
    can_suspend: bool = False
    is_suspended: bool = False
    browned_s: float | None = None
    misses: int = 0

    def in_wave(self) -> list[Part]:
        """Return the dependents of the wave that runs."""
        return [part for part in self.parts if part.wave == self.wave]

    @property
    def is_decided(self) -> bool:
        """Whether a person has chosen or the key has ended, whatever an answer would say now."""
        is_wanted_back = self.wants_back and self.state in REVERSIBLE
        return is_wanted_back or self.may_go_on or not self.key_lives

    @property
    def waves(self) -> list[int]:
        """Return the waves that somebody stands in, in order."""
        return sorted({part.wave for part in self.parts}) or [0]

    @property
    def is_last_wave(self) -> bool:
        """Whether nobody moves after the wave that runs."""
        return self.wave == self.waves[-1]


def decide(seen: Seen) -> Move:
    """Return the next move; None at the end and while a person must choose."""
    if seen.state in ENDS or seen.state is State.HELD:
        return None
    if seen.state in REVERSIBLE and not seen.key_lives:
        return Go(State.ROLLING_BACK, cause=Cause.KEY_ENDED)
    if seen.state in REVERSIBLE and seen.wants_back:
        # It is tried before anybody is led back to it, so it has to work again first.
        if seen.is_suspended:
            return Do(Step.RESUME_OLD)
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
    if not seen.may_go_on and not all(part.progress in DONE for part in wave):
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
    if not all(part.progress in DONE for part in seen.parts):
        return _wait_or_hold(seen, Cause.UNCONFIRMED)
    if seen.since_s < seen.terms.overlap_s:
        return Wait(min(seen.terms.overlap_s - seen.since_s, POLL_MOST_S))
    if seen.silent_s is None:
        return Go(State.HELD, cause=Cause.UNOBSERVED)
    if seen.silent_s < seen.terms.quiet_s:
        # Looked at again and again: some providers remember nothing of a session that is closed.
        return _wait_or_hold(seen, Cause.UNCONFIRMED)
    return Go(State.BROWNOUT if seen.terms.brownout_s and seen.can_suspend else State.REVOKING)


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
    if seen.key_lives and seen.settling_s > 0 and not seen.may_go_on:
        return Wait(min(max(POLL_S, seen.settling_s), POLL_MOST_S))
    return Do(Step.REVOKE_NEW)


def _wait_or_hold(seen: Seen, cause: Cause) -> Move:
    return wait_or_hold(seen.terms.grace_s, seen.since_s, cause)


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
    State.BROWNOUT: brownout.move,
    State.REVOKING: _revoking,
    State.REVOKE_VERIFIED: _revoke_verified,
    State.ROLLING_BACK: _rolling_back,
}
