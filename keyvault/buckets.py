"""Token buckets in the memory of this process: they slow down whoever wants too much of something.

They protect the service from load, the approvers from a flood, and servers of
others from calls in somebody's name; no secret rests on them, because tokens
and client secrets have 256 random bits. So they need no shared store: a limiter
in the queue server would refuse everybody, or let everybody through, whenever
that server is away, and one in PostgreSQL would write and sync a row for every
read. With n console processes a caller gets at most n times the rate, which
the sizes allow for.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Rate:
    """How much one bucket allows: `per_s` calls a second in the long run, `burst` at once."""

    per_s: float
    burst: int


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
