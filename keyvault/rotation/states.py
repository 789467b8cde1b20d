"""The states of a rotation and of those who move with it, and which state leads to which."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise


class State(StrEnum):
    """Where a rotation stands."""

    PLANNED = "planned"
    CREATING = "creating"
    RECONCILING = "reconciling"
    CREATED = "created"
    VALIDATED = "validated"
    STAGED = "staged"
    PROMOTING = "promoting"
    DRAINING = "draining"
    BROWNOUT = "brownout"
    REVOKING = "revoking"
    REVOKE_VERIFIED = "revoke_verified"
    COMPLETED = "completed"
    HELD = "held"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"


class Progress(StrEnum):
    """How far one dependent is in a rotation."""

    WAITING = "waiting"
    WRITING = "writing"
    RESTARTING = "restarting"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    EXCUSED = "excused"


class Old(StrEnum):
    """What trying the old credential showed. UNTRIED: not since the wave began."""

    UNTRIED = "untried"
    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


class Cause(StrEnum):
    """Why a rotation is held, or went back."""

    UNCONFIRMED = "unconfirmed"
    UNOBSERVED = "unobserved"
    OLD_DIED = "old_died"
    FAILED = "failed"
    ASKED = "asked"
    STOPPED = "stopped"
    KEY_ENDED = "key_ended"
    BUSY = "busy"
    NEEDED = "needed"


class Choice(StrEnum):
    """What a person may decide about a held rotation."""

    EXTEND = "extend"
    ROLL_BACK = "roll_back"
    GO_ON = "go_on"


ENDS = frozenset({State.COMPLETED, State.ROLLED_BACK})
# Once the old credential may be ended there is no going back to it.
POINT_OF_NO_RETURN = frozenset({State.REVOKING, State.REVOKE_VERIFIED, State.COMPLETED})
_AHEAD = (
    State.PLANNED,
    State.CREATING,
    State.CREATED,
    State.VALIDATED,
    State.STAGED,
    State.PROMOTING,
    State.DRAINING,
    State.BROWNOUT,
    State.REVOKING,
    State.REVOKE_VERIFIED,
    State.COMPLETED,
)
REVERSIBLE = frozenset(_AHEAD[: _AHEAD.index(State.REVOKING)]) | {State.RECONCILING}
_AFTER_HOLD = REVERSIBLE | {State.REVOKING, State.REVOKE_VERIFIED, State.ROLLING_BACK}


def _allowed() -> Mapping[State, frozenset[State]]:
    table = {state: {after} for state, after in pairwise(_AHEAD)}
    table[State.CREATING].add(State.RECONCILING)
    # A brown-out is made only where it is wanted and the provider can.
    table[State.DRAINING].add(State.REVOKING)
    table[State.RECONCILING] = {State.CREATED}
    table[State.HELD] = set(_AFTER_HOLD)
    table[State.ROLLING_BACK] = {State.ROLLED_BACK, State.HELD}
    for state in REVERSIBLE:
        table[state] |= {State.ROLLING_BACK, State.HELD}
    table[State.REVOKING].add(State.HELD)
    table[State.REVOKE_VERIFIED].add(State.HELD)
    return {state: frozenset(table.get(state, ())) for state in State}


ALLOWED = _allowed()
