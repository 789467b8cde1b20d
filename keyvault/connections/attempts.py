"""Attempts: write down what is about to be changed at a provider, and how it ended.

The row is committed before the call. Whoever finds it open later knows what
to look for, whatever happened to the process or to the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F

from approvals.ports import Actor, Run, Subject
from keyvault.audit import ledger
from keyvault.connections.models import Act, Attempt, AttemptState
from keyvault.inventory.models import Key
from keyvault.providers import base
from keyvault.vault import sealing
from keyvault.vault.sealing import Place


def open_attempt(*, act: Act, key_id: UUID) -> Attempt | None:
    """Return the one attempt of this act that may have changed the provider, or None."""
    return (
        Attempt.objects.select_related("connection", "key")
        .filter(act=act, key_id=key_id, state=AttemptState.OPEN)
        .first()
    )


def next_number(*, act: Act, version_id: UUID) -> int:
    """Return the number of the next attempt at one version."""
    return Attempt.objects.filter(act=act, version_id=version_id).count() + 1


def write(
    *,
    act: Act,
    key: Key,
    version_id: UUID,
    request_id: UUID,
    run: Run,
    planned: base.Attempt,
    provider: str,
    actor: Actor,
) -> Attempt:
    """Write an attempt down in the caller's transaction, its secret part sealed."""
    row = Attempt.objects.create(
        act=act,
        connection_id=key.connection_id,
        key=key,
        version_id=version_id,
        request_id=request_id,
        job_kind=run.kind,
        job_subject_id=run.subject_id,
        number=planned.number,
        tag=planned.tag,
        plan=planned.to_json(),
        calls=1,
        created_at=run.now,
        called_at=run.now,
    )
    if planned.material:
        sealing.put(_place(row), planned.material, now=run.now)
    _record("attempt.written", row, actor, run.now, {"provider": provider})
    return row


def again(row: Attempt, *, now: datetime) -> None:
    """Count one more call of an open attempt, before it is made."""
    Attempt.objects.filter(pk=row.pk).update(calls=F("calls") + 1, called_at=now)
    row.refresh_from_db(fields=["calls", "called_at"])


def planned(row: Attempt, *, actor: Actor, now: datetime) -> base.Attempt:
    """Return the provider's own attempt, secret part unsealed. Raises sealing.Unreadable."""
    material = sealing.take(
        _place(row), actor=actor, subject=subject_of(row), now=now, purpose="replay"
    )
    return base.Attempt.from_json(row.plan, material)


def unanswered(row: Attempt, error: base.ProviderError, *, actor: Actor, now: datetime) -> None:
    """Note that an answer was lost; the attempt stays open."""
    fields = {"code": error.code, "sentence": error.sentence}
    _record("attempt.unanswered", row, actor, now, fields, outcome="error")


def settle(row: Attempt, state: AttemptState, *, note: str, actor: Actor, now: datetime) -> None:
    """End an open attempt in the caller's transaction and forget its secret part.

    An attempt that has ended is left as it is.
    """
    fresh = Attempt.objects.filter(pk=row.pk, state=AttemptState.OPEN)
    if not fresh.update(state=state, note=note, ended_at=now):
        return
    row.state, row.note, row.ended_at = state, note, now
    sealing.remove(_place(row))
    _record("attempt.settled", row, actor, now, {"state": str(state), "note": note})


def by_tags(connection_id: UUID, tags: Sequence[str]) -> Mapping[str, Attempt]:
    """Return the creating attempts of one Connection by their tags."""
    rows = Attempt.objects.select_related("key").filter(
        connection_id=connection_id, act=Act.CREATE, tag__in=tags
    )
    return {row.tag: row for row in rows}


def state_of(row: Attempt) -> str:
    """Return the state of an attempt as it is committed now."""
    return Attempt.objects.values_list("state", flat=True).get(pk=row.pk)


def subject_of(row: Attempt) -> Subject:
    """Return the key that an attempt serves, as the ledger names it."""
    return Subject("key", str(row.key_id), row.key.name)


def _place(row: Attempt) -> Place:
    return Place("attempt", row.pk, row.number)


def _record(  # noqa: PLR0917 - private, and every caller passes all of it.
    event: str,
    row: Attempt,
    actor: Actor,
    now: datetime,
    fields: Mapping[str, Any],
    *,
    outcome: str = "ok",
) -> None:
    ledger.record(
        event,
        actor=actor,
        subject=subject_of(row),
        now=now,
        fields={"act": str(row.act), "number": row.number, "tag": row.tag, **fields},
        outcome=outcome,
        request_id=row.request_id,
    )
