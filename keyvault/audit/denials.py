"""Count refusals, and write one event for many of the same kind.

A refusal is counted in its own statement, because the transaction of the act
that was refused is rolled back. Once a minute `flush` turns each count into an
event; a burst of ten thousand guessed addresses is one line with its number.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connection, transaction

from approvals.ports import Actor, Subject
from keyvault.audit import context, ledger
from keyvault.audit.models import Denial

WINDOW = timedelta(seconds=60)
# How a gateway counts a sealed value that does not open in its place: key, version, field.
_MISPLACED = "gateway: misplaced "
_GATEWAY = Actor("system", "gateway", "Gateway")
NOBODY = Actor("user", "anonymous", "Somebody not signed in")
_COUNT = """
    INSERT INTO keyvault_denial AS known
        (actor_kind, actor_id, gate, ip, actor_label, example, count, first_at, last_at)
    VALUES (%s, %s, %s, %s, %s, %s, 1, %s, %s)
    ON CONFLICT (actor_kind, actor_id, gate, ip)
    DO UPDATE SET count = known.count + 1, last_at = excluded.last_at
"""


def count(gate: str, *, actor: Actor, example: str, now: datetime) -> None:
    """Count one refusal of `actor` at `gate`. `example` is one of the things asked for.

    One statement, so that a count which meets `flush` waits for it and then
    begins anew: a row that is found and then raised could be gone in between.
    """
    ip = context.current().ip[:45]
    key = [actor.kind, actor.id[:200], gate[:100], ip]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_COUNT, [*key, actor.label[:200], example[:200], now, now])


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
    if row.gate.startswith(_MISPLACED):
        _write_misplaced(row.gate.removeprefix(_MISPLACED).split(" ", 2), now)
    else:
        _write_refused(row, now)


def _write_misplaced(place: list[str], now: datetime) -> None:
    """Write what the vault writes of itself when it meets such a value."""
    key_id, number, field = place
    ledger.record(
        "crypto.context_mismatch",
        actor=_GATEWAY,
        subject=Subject("key", key_id, key_id),
        now=now,
        outcome="error",
        fields={"kind": "key", "number": int(number), "field": field, "purpose": "gateway read"},
    )


def _write_refused(row: Denial, now: datetime) -> None:
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
