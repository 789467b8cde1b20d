"""Add what the gateways have read to the sums, each segment of reads exactly once.

A segment is due while its row in `UsageDue` exists. It is deleted in the
transaction that adds its sums, so a clock that dies between has done nothing,
and two clocks take different segments. No order among segments is needed: one
that comes late is due like any other.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection, transaction

from keyvault.usage import rollups
from keyvault.usage.models import UsageKind
from keyvault.usage.rollups import Place, Tally

BATCH = 50
_ROUNDS = 20

_TAKE = """
DELETE FROM keyvault_usagedue WHERE segment_id IN (
    SELECT segment_id FROM keyvault_usagedue ORDER BY segment_id LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING segment_id
"""
_SEGMENTS = """
SELECT process, first, last, first_at, last_at FROM keyvault_readsegment WHERE id = ANY(%s)
"""
# One segment at a time, with its bounds as values: the planner then opens only its days.
_READS = """
SELECT key_id, date_trunc('hour', at, 'UTC'), agent_id, source, count(*), max(at)
FROM keyvault_readevent
WHERE process = %s AND seq BETWEEN %s AND %s AND at BETWEEN %s AND %s
GROUP BY 1, 2, 3, 4
"""


def roll_up() -> int:
    """Add the sums of the segments that are due, up to 1,000; return of how many.

    Each 50 are one transaction.
    """
    done = 0
    for _ in range(_ROUNDS):
        taken = _roll_up_batch()
        done += taken
        if taken < BATCH:
            break
    return done


def _roll_up_batch() -> int:
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute(_TAKE, [BATCH])
            taken = [row[0] for row in cursor.fetchall()]
        if taken:
            rollups.add(_tallies(taken))
    return len(taken)


def _tallies(segment_ids: list[int]) -> Iterable[Tally]:
    with connection.cursor() as cursor:
        cursor.execute(_SEGMENTS, [segment_ids])
        for bounds in cursor.fetchall():
            cursor.execute(_READS, bounds)
            for key_id, hour, agent_id, source, count, last_at in cursor.fetchall():
                place = Place(key_id, hour, agent_id, None, source, UsageKind.GATEWAY)
                yield Tally(place, count, last_at)
