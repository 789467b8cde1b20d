"""End leases: promised in one transaction, done at the provider, noted in another.

Whoever ends one takes its row lock and finds it OPEN, or finds that somebody was
faster. Two who call the provider do no harm: a credential that has ended counts as ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from approvals import queue
from approvals.ports import Actor, Run
from keyvault.audit import ledger
from keyvault.connections import minting
from keyvault.inventory import services as inventory
from keyvault.leases import selectors
from keyvault.leases.models import Lease, LeaseState

JOB = "lease.end"
WORKER = Actor("system", "leases", "keyvault")
_EVENTS = {
    LeaseState.RETURNED: "lease.returned",
    LeaseState.EXPIRED: "lease.expired",
    LeaseState.WITHDRAWN: "lease.withdrawn",
}
LAPSED = "The provider ended it by itself."


@queue.handler(JOB)
def run(lease_id: UUID, run: Run) -> None:
    """End one lease at its provider. Raises Unfinished, NeedsPerson."""
    finish(lease_id, actor=WORKER, now=run.now)


def promise(
    row: Lease,
    aim: LeaseState,
    *,
    cause: str,
    actor: Actor,
    now: datetime,
    due_at: datetime | None = None,
) -> None:
    """Let a locked lease end, and promise the job that does it. In the caller's transaction."""
    row.state, row.aim, row.cause = LeaseState.ENDING, aim, cause[:300]
    row.save()
    record("lease.ending", row, actor=actor, now=now, fields={"aim": str(aim), "cause": cause})
    queue.enqueue(kind=JOB, subject_id=row.pk, due_at=due_at)


def finish(lease_id: UUID, *, actor: Actor, now: datetime) -> None:
    """End the credential of a lease that is to end, and note it. Idempotent. Outermost.

    Raises Unfinished, NeedsPerson.
    """
    row = selectors.lease(lease_id)
    if row.state != LeaseState.ENDING:
        return
    if row.lapses_at <= now:
        settle(lease_id, actor=actor, now=now, note=LAPSED)
        return
    is_ended = minting.end(
        lease_id=row.pk,
        key=row.key,
        server=row.server,
        remote=row.remote,
        actor=actor,
        now=now,
    )
    if is_ended:
        settle(lease_id, actor=actor, now=now, note="Ended at the provider.")


def settle(lease_id: UUID, *, actor: Actor, now: datetime, note: str) -> None:
    """Note that the credential of a lease has ended, and delete what lies sealed. Outermost.

    Its job has nothing left to do, and is called off unless it is this very one that runs.
    """
    with transaction.atomic(durable=True):
        row = selectors.lock(lease_id)
        if row.state not in {LeaseState.ENDING, LeaseState.ORPHANED}:
            return
        end = LeaseState(row.aim or LeaseState.EXPIRED)
        row.state, row.aim, row.ended_at = end, "", now
        row.save(update_fields=["state", "aim", "ended_at"])
        minting.forget(row.pk)
        record(_EVENTS[end], row, actor=actor, now=now, fields={"note": note})
        with suppress(queue.NotOpen):
            queue.cancel(kind=JOB, subject_id=row.pk)


def orphan(row: Lease, *, code: str, sentence: str, now: datetime) -> None:
    """Note of a locked lease that nobody knows what was minted. In the caller's transaction."""
    row.state, row.cause = LeaseState.ORPHANED, sentence[:300]
    row.save(update_fields=["state", "cause"])
    fields = {"code": code, "sentence": sentence, "lapses_at": row.lapses_at.isoformat()}
    record("lease.orphaned", row, actor=WORKER, now=now, fields=fields, outcome="error")


def record(
    event: str,
    row: Lease,
    *,
    actor: Actor,
    now: datetime,
    fields: Mapping[str, Any],
    outcome: str = "ok",
) -> None:
    """Write a line of the ledger about a lease, under its key, in the caller's transaction."""
    ledger.record(
        event,
        actor=actor,
        subject=inventory.subject(row.key),
        now=now,
        fields={"lease": str(row.pk), "agent": row.agent.name, **fields},
        outcome=outcome,
    )
