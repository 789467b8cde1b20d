"""The time of the database, and for how long what was read from it may be acted on.

Dates of tokens and grants are judged by the database's clock, so that a
gateway whose own clock is wrong neither opens early nor closes late.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial

LEASE_S = 1.0
# CLOCK_BOOTTIME also runs while a virtual machine is suspended: one that wakes up knows
# that what it holds is old. Where there is none, the monotonic clock has to do.
_SOURCE = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

ticks = partial(time.clock_gettime, _SOURCE)
"""Return seconds that nobody can set back; asked several times a read, so without a frame of its own."""


class Clock:
    """The time of the database, kept between two looks at it.

    Each look sets it by the moment before the question was sent, so that it
    runs ahead by the way there at most: rights end early rather than late.
    """

    __slots__ = ("_base",)

    def __init__(self) -> None:
        self._base = time.time() - ticks()

    def set(self, told: datetime, *, asked: float) -> None:
        """Take over the database's answer to a question that was sent at `asked` ticks."""
        self._base = told.timestamp() - asked

    def now(self) -> float:
        """Return seconds since 1970, UTC, by the database."""
        return ticks() + self._base

    def moment(self) -> datetime:
        """Return the same as a datetime."""
        return datetime.fromtimestamp(ticks() + self._base, UTC)


class Lease:
    """The right to answer, which lasts one second after what is known was last confirmed.

    `stale_max_s` seconds more where an operator prefers old answers to none.
    The console takes a gateway for gone after the same time (see
    `keyvault.invalidation.services`), so this must never last longer.
    """

    __slots__ = ("_length", "_until")

    def __init__(self, stale_max_s: float) -> None:
        self._length = LEASE_S + stale_max_s
        self._until = 0.0

    def renew(self, confirmed: float) -> None:
        """Start it anew from `confirmed` ticks: when the look that was confirmed began."""
        self._until = confirmed + self._length

    def cut(self) -> None:
        """Give up the second of grace, because the connection was lost.

        What was confirmed in the last moments may be lost with a PostgreSQL
        that crashed (the row is written without waiting for the disk), and the
        console then takes this gateway for gone by that much earlier.
        """
        self._until -= LEASE_S

    def holds(self) -> bool:
        """Say whether answers may be given now."""
        return ticks() < self._until
