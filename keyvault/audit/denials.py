"""Count refusals, and write one event for many of the same kind.

A refusal is counted in its own statement, because the transaction of the act
that was refused is rolled back. Once a minute `flush` turns each count into an
event; a burst of ten thousand guessed addresses is one line with its number.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F

from approvals.ports import Actor, Subject
from keyvault.audit import context, ledger
from keyvault.audit.models import Denial

WINDOW = timedelta(seconds=60)
NOBODY = Actor("user", "anonymous", "Somebody not signed in")


def count(gate: str, *, actor: Actor, example: str, now: datetime) -> None:
    """Count one refusal of `actor` at `gate`. `example` is one of the things asked for."""
    ip = context.current().ip[:45]
    with transaction.atomic():
        row, is_new = Denial.objects.get_or_create(
            actor_kind=actor.kind,
            actor_id=actor.id[:200],
            gate=gate[:100],
            ip=ip,
            defaults={
                "actor_label": actor.label[:200],
                "example": example[:200],
                "first_at": now,
                "last_at": now,
            },
        )
        if not is_new:
            Denial.objects.filter(pk=row.pk).update(count=F("count") + 1, last_at=now)


def flush(now: datetime, *, is_forced: bool = False) -> int:
    """Write one event for each count that is a minute old; return how many were written."""
    due = Denial.objects.all() if is_forced else Denial.objects.filter(first_at__lte=now - WINDOW)
    with transaction.atomic():
        rows = list(due.select_for_update(skip_locked=True)[:500])
        for row in rows:
            with context.origin(context.Origin(ip=row.ip)):
                _write(row, now)
        Denial.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)


def _write(row: Denial, now: datetime) -> None:
    ledger.record(
        "access.refused",
        actor=Actor(row.actor_kind, row.actor_id, row.actor_label),
        subject=Subject("gate", row.gate, row.gate),
        now=now,
        outcome="refused",
        fields={
            "gate": row.gate,
            "count": row.count,
            "first_at": row.first_at.isoformat(),
            "last_at": row.last_at.isoformat(),
            "example": row.example,
        },
    )
