"""Keep the days of reads: make partitions ahead, drop those whose time has passed.

The serving role owns no table. It may call two functions of the owner, which
take their bounds from the table that `set_retention` writes as the owner
(migration 0009_reads).
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection, transaction

from approvals.ports import Actor, Subject
from keyvault.audit import ledger
from keyvault.audit.reads.models import ReadRetention
from keyvault.audit.reads.segments import DROPPED, moment

CLOCK = Actor("system", "retention", "Retention")


def keep(now: datetime) -> int:
    """Make the partitions of the coming week and drop what is due; return how many were dropped.

    Each dropped day is an event in the same transaction, so that no day
    disappears without a line. Nothing is dropped while a segment of that time
    waits for its own event. Raises ledger.LedgerUnavailable.
    """
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SELECT keyvault_make_read_days()")
            cursor.execute("SELECT until, reads FROM keyvault_drop_read_days()")
            dropped = cursor.fetchall()
        for until, reads in dropped:
            ledger.record(
                DROPPED,
                actor=CLOCK,
                subject=Subject("reads", "reads", "the reads of agents"),
                now=now,
                fields={"until": moment(until), "count": reads},
            )
    return len(dropped)


def set_retention(days: int) -> None:
    """Say how long reads are kept. Only the owner of the tables can."""
    with transaction.atomic():
        if not ReadRetention.objects.filter(id=1, days=days).exists():
            ReadRetention.objects.update_or_create(id=1, defaults={"days": days})
