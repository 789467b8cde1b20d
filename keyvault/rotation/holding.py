"""When a held rotation goes on by itself: those whom it waited for have come, so nothing is left to decide."""

from __future__ import annotations

from keyvault.rotation.moves import DONE
from keyvault.rotation.saga import Seen
from keyvault.rotation.states import Cause, State


def may_end_by_itself(held_from: str, cause: str) -> bool:
    """Say whether a hold is a wait for somebody who was late, and no question to a person."""
    return held_from == State.PROMOTING and cause == Cause.UNCONFIRMED


def is_over(where: Seen, cause: str) -> bool:
    """Say whether a hold has lost its reason.

    where: what is seen now, in the state in which it was held. Only a roll-out that
    waited too long for somebody is meant: every other hold is a question to a person.
    """
    if not may_end_by_itself(where.state, cause):
        return False
    return where.key_lives and all(part.progress in DONE for part in where.in_wave())
