"""The brown-out: the old version is switched off for a while before it is ended, to see who fails.

What can be switched on again shows at no cost what nobody has registered
(ROTATION.md, rule 14). Whoever fails has it switched on again, and a person is
asked. Pure, as the rest of the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyvault.rotation.moves import (
    DONE,
    POLL_MOST_S,
    POLL_S,
    Do,
    Go,
    Move,
    Step,
    Wait,
    wait_or_hold,
)
from keyvault.rotation.states import Cause, State

if TYPE_CHECKING:
    from keyvault.rotation.saga import Seen


def move(seen: Seen) -> Move:
    """Return the next move of a rotation that tries to do without the old version."""
    if seen.may_go_on:
        return Go(State.REVOKING)
    if _is_needed(seen):
        return Do(Step.RESUME_OLD) if seen.is_suspended else Go(State.HELD, cause=Cause.NEEDED)
    if seen.browned_s is None:
        return _before(seen)
    left = seen.terms.brownout_s - seen.browned_s
    if left > 0:
        return Wait(min(max(POLL_S, seen.browned_s / 10), POLL_MOST_S, left))
    return Go(State.REVOKING)


def _before(seen: Seen) -> Move:
    """Switch it off once everybody is well, also where somebody failed the last time."""
    if all(part.progress in DONE for part in seen.parts):
        return Do(Step.SUSPEND_OLD)
    if seen.is_suspended:
        return Do(Step.RESUME_OLD)
    return wait_or_hold(seen.terms.grace_s, seen.since_s, Cause.UNCONFIRMED)


def _is_needed(seen: Seen) -> bool:
    """Say whether somebody fails: so many that it ends at once, or anybody when its time is over."""
    if seen.misses >= seen.terms.brownout_most:
        return True
    if seen.browned_s is None or seen.browned_s < seen.terms.brownout_s:
        return False
    return seen.misses > 0 or not all(part.progress in DONE for part in seen.parts)
