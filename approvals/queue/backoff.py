"""When to try again: exponential with full jitter (ROTATION.md rule 11)."""

from __future__ import annotations

import secrets
from datetime import timedelta

TRIES = 6
BASE_S = 2
CAP_S = 300

_dice = secrets.SystemRandom()


def ceiling(attempts: int) -> timedelta:
    """Return the longest wait after this many failed tries: 2, 4, 8, ... at most 300 s."""
    return timedelta(seconds=min(CAP_S, BASE_S * 2 ** max(0, attempts - 1)))


def delay(attempts: int) -> timedelta:
    """Return a wait drawn evenly from zero to the ceiling.

    Full jitter spreads the tries of jobs that failed together, so that a
    provider that comes back is not knocked over at once.
    """
    return ceiling(attempts) * _dice.random()
