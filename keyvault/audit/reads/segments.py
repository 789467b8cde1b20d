"""Give each segment of reads its one event in the ledger."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection, transaction

from approvals.ports import Actor, Subject
from keyvault.audit import ledger
from keyvault.audit.reads.models import ReadSegment

SEGMENT, DROPPED = "reads.segment", "reads.dropped"
GATEWAY = Actor("system", "gateway", "Gateway")
BATCH = 200
LOCK = 0x6B76_0009  # "kv": the advisory lock of whoever writes the events of segments.


class Doubled(Exception):
    """Another clock has recorded the segment meanwhile; the whole batch is undone."""


def record_due(now: datetime) -> int:
    """Write the event of every segment that has none, up to 200; return how many were written.

    Event and mark are one transaction. Only one clock does it at a time, so that
    the events of a process stand in the ledger in the order of its reads; the
    other returns 0. Raises ledger.LedgerUnavailable, Doubled.
    """
    with transaction.atomic(durable=True):
        if not _locked():
            return 0
        found = list(ReadSegment.objects.filter(event=None).order_by("id")[:BATCH])
        for segment in found:
            _record(segment, now)
    return len(found)


def _locked() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def _record(segment: ReadSegment, now: datetime) -> None:
    event_id = ledger.record(
        SEGMENT,
        actor=GATEWAY,
        subject=Subject("reads", str(segment.process), f"the gateway process {segment.process}"),
        now=now,
        fields={
            "process": str(segment.process),
            "first": segment.first,
            "last": segment.last,
            "count": segment.count,
            "root": bytes(segment.root).hex(),
            "first_at": moment(segment.first_at),
            "last_at": moment(segment.last_at),
        },
    )
    marked = ReadSegment.objects.filter(id=segment.id, event=None).update(event_id=event_id)
    if marked != 1:
        raise Doubled(f"segment {segment.id} has an event already")


def moment(at: datetime) -> str:
    """Return a time as events carry it: UTC, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
