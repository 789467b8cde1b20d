"""Count what the gateway refused, so that a flood of guesses fills neither disk nor memory.

Counts live in memory and are written to the table of refusals in batches, which
the clock turns into one `access.refused` event each (keyvault.audit.denials).
What a killed process had not flushed is lost: a refusal, unlike a read, gave
nothing away.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection

from keyvault.audit.reads.records import SOURCE_MAX, plain

MOST_SOURCES, MOST_OF_SOURCE = 500, 8
FLUSH_S = 15.0
SEVERAL = "several"
_IP, _REASON = 45, 80

# A refused caller may hold a text that is no id, so the agent is looked up as text.
_FLUSH = """
INSERT INTO keyvault_denial AS told
    (actor_kind, actor_id, actor_label, gate, ip, example, count, first_at, last_at)
VALUES (%(kind)s, %(who)s,
    coalesce((SELECT name FROM keyvault_agent WHERE id::text = %(who)s), %(label)s),
    %(gate)s, %(ip)s, %(reason)s, %(count)s, %(first_at)s, %(last_at)s)
ON CONFLICT (actor_kind, actor_id, gate, ip) DO UPDATE SET
    count = least(told.count::bigint + excluded.count, 2147483647)::int,
    first_at = least(told.first_at, excluded.first_at),
    last_at = greatest(told.last_at, excluded.last_at)
"""


@dataclass(slots=True)
class Count:
    """Refusals of one kind: how many, the first and the last in seconds since 1970."""

    first_at: float
    last_at: float
    count: int = 1


@dataclass(frozen=True, slots=True)
class What:
    """One kind of refusal. Beyond the bounds, source or principal and reason are `several`."""

    source: str
    principal: str
    reason: str


class Refusals:
    """The counts of one process since the last flush."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: dict[str, dict[What, Count]] = {}

    def count(self, source: str, principal: str, reason: str) -> None:
        """Count one refusal, from any thread."""
        now = time.time()
        with self._guard:
            what = self._bounded(plain(source, SOURCE_MAX), principal, reason)
            counts = self._counts.setdefault(what.source, {})
            there = counts.get(what)
            if there is None:
                counts[what] = Count(now, now)
            else:
                there.count += 1
                there.last_at = now

    def take(self) -> list[tuple[What, Count]]:
        """Return all counts and begin anew."""
        with self._guard:
            taken, self._counts = self._counts, {}
        return [pair for counts in taken.values() for pair in counts.items()]

    def put_back(self, counts: list[tuple[What, Count]]) -> None:
        """Add counts that could not be flushed; the bounds hold."""
        with self._guard:
            for what, count in counts:
                kept = self._bounded(what.source, what.principal, what.reason)
                of_source = self._counts.setdefault(kept.source, {})
                there = of_source.setdefault(kept, Count(count.first_at, count.last_at, 0))
                there.count += count.count
                there.first_at = min(there.first_at, count.first_at)
                there.last_at = max(there.last_at, count.last_at)

    def _bounded(self, source: str, principal: str, reason: str) -> What:
        if source not in self._counts and len(self._counts) >= MOST_SOURCES:
            return What(SEVERAL, SEVERAL, SEVERAL)
        what = What(source, plain(principal, SOURCE_MAX), plain(reason, _REASON))
        counts = self._counts.get(source, {})
        if what not in counts and len(counts) >= MOST_OF_SOURCE:
            return What(source, SEVERAL, SEVERAL)
        return what


def flush(link: Connection[tuple[Any, ...]], refusals: Refusals) -> None:
    """Add the counts to the table, all or none. Raises psycopg.Error; the counts are kept."""
    counts = refusals.take()
    if not counts:
        return
    try:
        with link.transaction(), link.cursor() as cursor:
            cursor.executemany(_FLUSH, [_row(what, count) for what, count in counts])
    except BaseException:
        refusals.put_back(counts)
        raise


def _row(what: What, count: Count) -> dict[str, object]:
    return {
        "kind": "agent" if what.principal else "caller",
        "who": what.principal or "unknown",
        "label": "Several callers" if what.principal == SEVERAL else "Unknown caller",
        "gate": f"gateway: {what.reason}",
        # The address of several sources is none.
        "ip": "" if what.source == SEVERAL else what.source[:_IP],
        "reason": what.reason,
        "count": count.count,
        "first_at": datetime.fromtimestamp(count.first_at, UTC),
        "last_at": datetime.fromtimestamp(count.last_at, UTC),
    }
