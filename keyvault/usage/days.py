"""Keep the days of usage: make partitions ahead, drop events and sums whose time has passed.

The serving role owns no table; it may call two functions of the owner
(migration 0011_usage).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import connection, transaction

from approvals.ports import Actor, Subject
from keyvault.audit import ledger
from keyvault.usage import rollups

SUMS_DAYS = 400
CLOCK = Actor("system", "retention", "Retention")


def keep(now: datetime, *, events_days: int) -> int:
    """Make the partitions of the coming week and drop what is due; return how many were dropped.

    events_days: 7 or more; the database drops no younger day. Each dropped day
    is an event in the same transaction. Raises ledger.LedgerUnavailable.
    """
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SELECT keyvault_make_usage_days()")
            cursor.execute("SELECT until, uses FROM keyvault_drop_usage_days(%s)", [events_days])
            dropped = cursor.fetchall()
        for until, uses in dropped:
            ledger.record(
                "usage.dropped",
                actor=CLOCK,
                subject=Subject("usage", "usage", "reported usage"),
                now=now,
                fields={"until": until.astimezone(UTC).isoformat(), "count": uses},
            )
    rollups.drop_before(now - timedelta(days=SUMS_DAYS))
    return len(dropped)
