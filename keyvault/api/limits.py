"""Slow down whoever asks too much: token buckets in the memory of this process.

They protect the service from load and the approvers from a flood; no secret
rests on them, because tokens and client secrets have 256 random bits. So they need no
shared store: a limiter in the queue server would refuse everybody, or let
everybody through, whenever that server is away, and one in PostgreSQL would
write and sync a row for every read. With n console processes a caller gets at
most n times the rate, which the sizes below allow for.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from keyvault.api.problems import Problem

KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Rate:
    """How much one bucket allows: `per_s` calls a second in the long run, `burst` at once."""

    per_s: float
    burst: int


# One source may be many programs behind one address; one principal is one program.
SOURCE = Rate(per_s=100, burst=1_000)
PRINCIPAL = Rate(per_s=20, burst=200)
# What people will have to read is scarcer.
ASKING = Rate(per_s=0.2, burst=30)
# Batches of up to a thousand events, which nobody reads one by one.
REPORTING = Rate(per_s=5, burst=50)
# Each is a call to a provider, which has limits of its own.
LENDING = Rate(per_s=1, burst=60)
FAILURES = Rate(per_s=0.5, burst=60)


# Operations that bring many small things at once, by their operationId.
BATCHES = frozenset({"reportUsage"})
# Operations about credentials for one run.
LEASES = frozenset({"takeLease", "renewLease"})
# Operations that bring values. No digest of such a body is kept, so that it can be repeated
# only because doing it twice changes nothing.
VALUES = frozenset({"importKeys"})
# Operations that ask for an act although they are no POST; people have to read these as well.
ASKS = frozenset({"replaceLabels"})
# Operations that ask for one thing about many others, which they list.
LISTS = frozenset({"changeKeys", "startRotations"})


class Buckets:
    """The buckets that were used last. One that falls out was idle, and is full again anyway."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._levels: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, name: str, whose: str, rate: Rate, *, at: float, cost: int = 1) -> float:
        """Take from a bucket; return the seconds to wait, which are 0 when it was allowed.

        at: seconds of a clock that never goes back. A cost of 0 only looks.
        """
        with self._lock:
            level, then = self._levels.pop((name, whose), (float(rate.burst), at))
            level = min(float(rate.burst), level + (at - then) * rate.per_s)
            is_allowed = level >= max(cost, 1)
            self._levels[name, whose] = (level - cost if is_allowed else level, at)
            if len(self._levels) > KEPT:
                self._levels.popitem(last=False)
        return 0.0 if is_allowed else (max(cost, 1) - level) / rate.per_s

    def clear(self) -> None:
        """Forget everything; for tests."""
        with self._lock:
            self._levels.clear()


buckets = Buckets()


def take(name: str, whose: str, rate: Rate, *, cost: int = 1) -> int:
    """Take one call from a bucket; return the whole seconds to wait, 0 when it was allowed."""
    return math.ceil(buckets.take(name, whose, rate, at=time.monotonic(), cost=cost))


def charge(name: str, whose: str, rate: Rate, *, cost: int = 1) -> None:
    """Take one call from a bucket. Raises Problem with `Retry-After` when it is empty."""
    wait_s = take(name, whose, rate, cost=cost)
    if wait_s:
        raise Problem("too-many-requests", headers={"Retry-After": str(wait_s)})
