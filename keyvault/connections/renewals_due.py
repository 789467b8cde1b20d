"""Begin the renewals whose day has come, and look after those that lost their job. The clock calls it."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F, Q

from approvals import queue
from keyvault.connections import renewals
from keyvault.connections.models import RENEWAL_ENDS, Connection, Renewal

# One that ended without effect is not begun again by itself on the same day.
_REST = timedelta(days=1)
_DAY = timedelta(days=1)
STARTED_BY = "Schedule"


def run(now: datetime) -> int:
    """Begin what is due; return how many. Hold what its job has given up."""
    begun = sum(_begin(row, now) for row in _due(now))
    _look_after(now)
    return begun


def _due(now: datetime) -> list[Connection]:
    age = ExpressionWrapper(F("renew_days") * _DAY, output_field=DurationField())
    at_work = ~Q(renewals__state__in=RENEWAL_ENDS)
    lately = Connection.objects.filter(
        Q(renewals__ended_at__gt=now - _REST) | (Q(renewals__isnull=False) & at_work)
    )
    rows = Connection.objects.filter(renew_days__isnull=False, credential_at__lte=now - age)
    return [row for row in rows.exclude(pk__in=lately.values("pk")) if renewals.can_renew(row)]


def _begin(row: Connection, now: datetime) -> bool:
    """Begin one renewal under the approval of its cadence; say whether it was begun here."""
    try:
        with transaction.atomic(durable=True):
            renewal = renewals.begin(
                connection_id=row.pk,
                request_id=row.request_id or row.pk,
                started_by=STARTED_BY,
                actor=renewals.CLOCK,
                now=now,
            )
            _require_unchanged(row, renewal.connection)
    except renewals.NotRenewable:
        # Somebody was faster than the look.
        return False
    return True


def _require_unchanged(seen: Connection, locked: Connection) -> None:
    """Raise NotRenewable unless cadence and credential are those of the look."""
    before, after = ((row.renew_days, row.credential_number) for row in (seen, locked))
    if before != after:
        raise renewals.NotRenewable("Its cadence or its credential has changed.")


def _look_after(now: datetime) -> None:
    """Hold renewals whose job was given up, and ring for those that have none."""
    held = {job.subject_id: job for job in queue.held(kind=renewals.JOB, limit=None)}
    waiting = {subject_id for subject_id, _ in queue.open_jobs(kind=renewals.JOB)}
    rows = Renewal.objects.exclude(state__in=RENEWAL_ENDS).filter(held_at=None)
    for renewal in rows.select_related("connection"):
        with transaction.atomic(durable=True):
            if renewal.pk in held:
                renewals.hold(renewal, held[renewal.pk].sentence, now=now)
            elif renewal.pk not in waiting:
                queue.enqueue(kind=renewals.JOB, subject_id=renewal.pk)
