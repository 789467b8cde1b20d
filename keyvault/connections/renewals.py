"""Write renewals of admin credentials: each transition once, with its ledger line, in one transaction.

A renewal is begun by an approved act or by an approved cadence and then moved by
its job alone (`renewing`). Where it is held, a person has it tried again, or stops
it while nothing has been called that changes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F

from approvals import queue
from approvals.ports import Actor, NotVisible
from keyvault.audit import ledger
from keyvault.connections import kinds
from keyvault.connections.context import place_of, subject_of
from keyvault.connections.models import RENEWAL_ENDS, Connection, Renewal, RenewalState
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.plugins.loading import UnknownKind
from keyvault.providers.base import RenewsAdmin
from keyvault.vault import sealing

JOB = "connection.renew"
CLOCK = Actor("system", "renewal", "Renewal")
_DETAIL = "renewal"
_WAYS: Mapping[RenewalState, frozenset[RenewalState]] = {
    RenewalState.PLANNED: frozenset({RenewalState.CALLING, RenewalState.FAILED}),
    # Back to the plan only where the call has certainly left nothing.
    RenewalState.CALLING: frozenset(
        {RenewalState.PLANNED, RenewalState.IN_USE, RenewalState.FAILED}
    ),
    RenewalState.IN_USE: frozenset({RenewalState.DONE, RenewalState.FAILED}),
}


class NotRenewable(Exception):
    """The credential cannot be renewed, or is being renewed already. The message says which."""


class WrongMoment(Exception):
    """The renewal is not where this can be done."""


class Busy(Exception):
    """A renewal is at work, so that the credential cannot be changed by hand now."""


def can_renew(connection: Connection) -> bool:
    """Say whether keyvault can renew the admin credential there by itself."""
    return connection.credential_number > 0 and is_offered(connection.provider)


def is_offered(kind: str) -> bool:
    """Say whether a provider can renew the credential by which it works; the others leave it to people."""
    try:
        return isinstance(kinds.registered(kind).plugin, RenewsAdmin)
    except UnknownKind:
        return False


def open_of(connection_id: UUID) -> Renewal | None:
    """Return the renewal of a Connection that has not come to its end, or None."""
    return (
        Renewal.objects.filter(connection_id=connection_id).exclude(state__in=RENEWAL_ENDS).first()
    )


def was_begun(request_id: UUID) -> bool:
    """Say whether a renewal was begun for a request."""
    return Renewal.objects.filter(request_id=request_id).exists()


def history(connection_id: UUID, *, most: int = 10) -> Sequence[Renewal]:
    """Return the newest renewals of a Connection."""
    return list(Renewal.objects.filter(connection_id=connection_id)[:most])


def newest(ids: Collection[UUID]) -> Mapping[UUID, Renewal]:
    """Return the newest renewal of each of some Connections."""
    rows = Renewal.objects.filter(connection_id__in=ids)
    rows = rows.order_by("connection_id", "-created_at").distinct("connection_id")
    return {row.connection_id: row for row in rows}


def by_id(renewal_id: UUID) -> Renewal | None:
    """Return one renewal with its Connection as both are now."""
    return Renewal.objects.select_related("connection").filter(pk=renewal_id).first()


def begin(
    *, connection_id: UUID, request_id: UUID, started_by: str, actor: Actor, now: datetime
) -> Renewal:
    """Begin a renewal in the caller's transaction and promise its job. Raises NotRenewable."""
    row = Connection.objects.select_for_update().filter(pk=connection_id).first()
    if row is None or not can_renew(row):
        raise NotRenewable("The admin credential of this Connection is renewed by hand.")
    if open_of(row.pk) is not None:
        raise NotRenewable(f"The admin credential of {row.slug} is being renewed already.")
    renewal = Renewal.objects.create(
        connection=row,
        request_id=request_id,
        started_by=started_by,
        number=row.credential_number + 1,
        created_at=now,
    )
    queue.enqueue(kind=JOB, subject_id=renewal.pk)
    record("renewal.started", renewal, actor, now, {"started_by": started_by})
    return renewal


def enter(
    renewal: Renewal,
    state: RenewalState,
    *,
    now: datetime,
    actor: Actor = CLOCK,
    sentence: str = "",
    **facts: Any,  # noqa: ANN401 - columns of the row that change with the state.
) -> None:
    """Make one transition in the caller's transaction: a guarded update and its ledger line.

    Raises WrongMoment when the row is elsewhere by now, or no such way is known.
    """
    before = RenewalState(renewal.state)
    if state not in _WAYS.get(before, frozenset()):
        raise WrongMoment(f"A renewal never goes from {before} to {state}.")
    if state in RENEWAL_ENDS:
        facts |= {"ended_at": now, "held_at": None}
    here = Renewal.objects.filter(pk=renewal.pk, state=before)
    if not here.update(state=state, sentence=sentence, **facts):
        raise WrongMoment("Somebody else has moved this renewal.")
    renewal.refresh_from_db()
    fields = {"state": str(state), "before": str(before), "sentence": sentence}
    record("renewal.moved", renewal, actor, now, fields)
    if state in RENEWAL_ENDS:
        _untell(renewal, now)


def called(renewal: Renewal, *, now: datetime) -> None:
    """Count one call that may change something, before it is made. Raises WrongMoment."""
    here = Renewal.objects.filter(pk=renewal.pk, state=RenewalState.CALLING)
    if not here.update(calls=F("calls") + 1):
        raise WrongMoment("Somebody else has moved this renewal.")
    renewal.refresh_from_db()
    record("renewal.called", renewal, CLOCK, now, {"calls": renewal.calls})


def hold(renewal: Renewal, sentence: str, *, now: datetime) -> None:
    """Set a renewal aside for a person and tell its owner, in the caller's transaction."""
    open_ones = Renewal.objects.exclude(state__in=RENEWAL_ENDS)
    if not open_ones.filter(pk=renewal.pk, held_at=None).update(held_at=now, sentence=sentence):
        return
    record("renewal.held", renewal, CLOCK, now, {"state": renewal.state, "sentence": sentence})
    findings.open(
        kind=FindingKind.CONNECTION,
        subject=subject_of(renewal.connection),
        detail=_DETAIL,
        sentence=f"The renewal of the admin credential waits for a person. {sentence}",
        now=now,
        actor=CLOCK,
    )


def try_again(*, connection_id: UUID, actor: Actor, now: datetime) -> None:
    """Have a held renewal go on from where it is. Raises NotVisible, WrongMoment."""
    with transaction.atomic():
        renewal = _held(connection_id)
        Renewal.objects.filter(pk=renewal.pk).update(held_at=None, sentence="")
        record("renewal.resumed", renewal, actor, now, {"state": renewal.state})
        _untell(renewal, now)
        ring(renewal.pk)


def stop(*, connection_id: UUID, actor: Actor, now: datetime) -> None:
    """End a held renewal that has called nothing that changes. Raises NotVisible, WrongMoment."""
    with transaction.atomic():
        renewal = _held(connection_id)
        if renewal.state != RenewalState.PLANNED:
            raise WrongMoment("A call may have taken effect: have it tried again.")
        sentence = "A person stopped it before anything was changed."
        enter(renewal, RenewalState.FAILED, now=now, actor=actor, sentence=sentence)


def overtake(connection: Connection, *, actor: Actor, now: datetime) -> None:
    """End the renewal of a locked Connection whose credential a person replaces. Raises Busy.

    The values of before are deleted; what the provider may still take of them is
    for whoever replaced them to end there.
    """
    # Locked, so that one who has a held renewal tried again meanwhile is waited for or refused.
    rows = Renewal.objects.select_for_update().filter(connection_id=connection.pk)
    renewal = rows.exclude(state__in=RENEWAL_ENDS).first()
    if renewal is None:
        return
    if renewal.held_at is None and renewal.state != RenewalState.PLANNED:
        raise Busy("The admin credential is just being renewed; this waits until that is over.")
    for number in (renewal.number - 1, renewal.number):
        if number != connection.credential_number:
            sealing.remove(place_of(connection.pk, number))
    sentence = "The credential was replaced by hand."
    enter(renewal, RenewalState.FAILED, now=now, actor=actor, sentence=sentence)


def ring(renewal_id: UUID) -> None:
    """Have the job look as soon as this transaction commits, also one that was held itself."""
    with suppress(queue.NotOpen):
        queue.cancel(kind=JOB, subject_id=renewal_id)
    queue.enqueue(kind=JOB, subject_id=renewal_id)


def record(  # noqa: PLR0917 - every caller passes all of it.
    event: str, renewal: Renewal, actor: Actor, now: datetime, fields: Mapping[str, Any]
) -> None:
    """Write a line of the ledger about a renewal, in the caller's transaction."""
    ledger.record(
        event,
        actor=actor,
        subject=subject_of(renewal.connection),
        now=now,
        fields={"renewal": str(renewal.pk), "number": renewal.number, **fields},
        request_id=renewal.request_id,
    )


def _held(connection_id: UUID) -> Renewal:
    """Return the held renewal of a Connection, locked. Raises NotVisible, WrongMoment."""
    rows = Renewal.objects.select_related("connection").select_for_update(of=("self",))
    renewal = rows.filter(connection_id=connection_id).exclude(state__in=RENEWAL_ENDS).first()
    if renewal is None:
        raise NotVisible(f"renewal of {connection_id}")
    if renewal.held_at is None:
        raise WrongMoment("This renewal is at work already.")
    return renewal


def _untell(renewal: Renewal, now: datetime) -> None:
    findings.close(
        kind=FindingKind.CONNECTION,
        subject=subject_of(renewal.connection),
        detail=_DETAIL,
        sentence="It goes on.",
        now=now,
    )
