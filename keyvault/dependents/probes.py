"""Keep the addresses at which dependents say how they are, and what they said. The caller owns the transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from approvals.ports import Actor, NotVisible, Subject
from keyvault.audit import ledger
from keyvault.dependents.models import Answer, Dependent, Probe
from keyvault.dependents.probing import Address, Heard

# One busy rotation asks each address at most once a second, and a bounded number at a look.
EVERY = timedelta(seconds=1)
MOST = 16


def of_dependents(dependent_ids: Collection[UUID]) -> dict[UUID, Probe]:
    """Return what is asked of each of these dependents, by the dependent's id."""
    rows = Probe.objects.filter(dependent_id__in=dependent_ids, ended_at=None)
    return {row.dependent_id: row for row in rows}


def of_dependent(dependent_id: UUID) -> Probe:
    """Return what is asked of a dependent. Raises NotVisible."""
    found = Probe.objects.filter(dependent_id=dependent_id, ended_at=None).first()
    if found is None:
        raise NotVisible(f"probe of {dependent_id}")
    return found


def due(dependent_ids: Collection[UUID], *, every: timedelta = EVERY) -> Sequence[Probe]:
    """Return the addresses of dependents that were not asked just now, the longest unasked first."""
    rows = Probe.objects.filter(dependent_id__in=dependent_ids, ended_at=None)
    rows = rows.filter(Q(asked_at=None) | Q(asked_at__lt=Now() - every))
    return list(rows.order_by(F("asked_at").asc(nulls_first=True), "pk")[:MOST])


def put(
    *, dependent: Dependent, address: Address, request_id: UUID, actor: Actor, now: datetime
) -> Probe:
    """Have an address asked from now on, in place of the one before, as approved. Idempotent.

    The caller holds the key's row lock.
    """
    if made := Probe.objects.filter(request_id=request_id).first():
        return made
    end(dependent=dependent, actor=actor, now=now)
    found = Probe.objects.create(
        dependent=dependent,
        address=address.url,
        allowed=address.allowed,
        request_id=request_id,
        created_at=now,
    )
    _record("dependent.probe_set", found, actor, now)
    return found


def end(*, dependent: Dependent, actor: Actor, now: datetime) -> bool:
    """Ask a dependent no more; say whether it was asked until now. Idempotent."""
    row = Probe.objects.filter(dependent=dependent, ended_at=None).first()
    if row is None or not Probe.objects.filter(pk=row.pk, ended_at=None).update(ended_at=now):
        return False
    _record("dependent.probe_ended", row, actor, now)
    return True


def note(probe: Probe, heard: Heard) -> None:
    """Write down what an address has answered, by the database's clock."""
    facts: dict[str, Any] = {"asked_at": Now(), "answer": heard.answer, "status": heard.status}
    if heard.answer == Answer.HEALTHY:
        facts |= {"healthy_at": Now(), "bad_count": 0, "bad_since": None, "bad_at": None}
    elif heard.answer == Answer.BAD:
        since = Coalesce("bad_since", Now())
        facts |= {"bad_count": F("bad_count") + 1, "bad_since": since, "bad_at": Now()}
    if heard.number is not None:
        facts |= {"number": heard.number, "named_at": Now()}
    Probe.objects.filter(pk=probe.pk, ended_at=None).update(**facts)


def _record(event: str, probe: Probe, actor: Actor, now: datetime) -> None:
    key = probe.dependent.key
    ledger.record(
        event,
        actor=actor,
        subject=Subject("key", str(key.pk), key.name),
        now=now,
        fields={"dependent": probe.dependent.name, "address": probe.address},
    )
