"""Rotate many keys that one request names: the riskiest first, a bounded number at each Connection.

A batch is a list of keys in the database and one job that begins their
rotations. Each key is begun or skipped in a transaction of its own, fenced by
the job and guarded by its row, so that whoever takes over after a crash goes on
with the first key that still waits and begins none twice. The rotations
themselves run by their own jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, QuerySet

from approvals import queue
from approvals.ports import Actor, Later, NotVisible, Run, Subject
from keyvault.accounts.models import User
from keyvault.audit import ledger
from keyvault.connections import selectors as connections
from keyvault.connections.models import Connection
from keyvault.inventory import exposures
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyState
from keyvault.providers.base import Shape
from keyvault.rotation import hurrying, services
from keyvault.rotation.models import ENDED, BatchKey, Rotation, RotationBatch, Skip, Trigger
from keyvault.vault import selectors as versions

JOB = "rotation.batch"
MOST = 1000
# A turn ends after this many, so that a worker has a fresh claim and a fresh time for the next.
_TURN = 25
# A rotation that ends has the job look at once; this is for one whose worker died before that.
_AGAIN_S = 5.0
_BY_SHAPE = {Shape.MANUAL: Skip.BY_HAND, Shape.EPHEMERAL: Skip.SHORT_LIVED}


class NothingWaits(Exception):
    """Every key of the batch was begun or skipped, so there is nothing to stop."""


def create(
    *,
    batch_id: UUID,
    key_ids: Collection[UUID],
    trigger: str,
    reason: str,
    request_id: UUID,
    person: User,
    started_by: str,
    actor: Actor,
    now: datetime,
) -> RotationBatch:
    """Write a batch with its keys in the order of their risk and promise its job.

    In the caller's transaction.
    """
    batch = RotationBatch.objects.create(
        pk=batch_id,
        request_id=request_id,
        trigger=trigger,
        reason=reason,
        created_by=person,
        started_by=started_by,
        created_at=now,
    )
    keys = Key.objects.filter(pk__in=key_ids).select_related("environment")
    order = sorted((-exposures.score(key), key.name, key.pk) for key in keys)
    BatchKey.objects.bulk_create(
        BatchKey(batch=batch, key_id=key_id, place=place, risk=-risk)
        for place, (risk, _, key_id) in enumerate(order, start=1)
    )
    queue.enqueue(kind=JOB, subject_id=batch.pk)
    fields = {"trigger": str(trigger), "keys": len(order)}
    _record("rotation.batch_created", batch, actor, now, fields)
    return batch


@queue.handler(JOB)
def run(batch_id: UUID, run: Run) -> None:
    """Begin what may begin now. Raises Later while keys wait, LostClaim."""
    settled = 0
    for row in _turn(batch_id):
        settled += _settle(row, run)
        run.reached("batch:settled")
    if _waiting(batch_id).exists():
        # What was skipped took no room, so there may be more.
        raise Later(0 if settled else _AGAIN_S)


def stop(*, batch_id: UUID, reason: str, actor: Actor, now: datetime) -> int:
    """Begin no more keys of a batch; return how many are left out. What runs goes on. Outermost.

    Raises NotVisible, NothingWaits.
    """
    with transaction.atomic(durable=True):
        batch = _locked(batch_id)
        count = _waiting(batch_id).update(skipped=Skip.STOPPED, settled_at=now)
        if not count:
            raise NothingWaits("Every key of this batch was begun or skipped already.")
        batch.stopped_at, batch.stopped_by, batch.stopped_for = now, actor.label, reason
        batch.save(update_fields=["stopped_at", "stopped_by", "stopped_for"])
        _record("rotation.batch_stopped", batch, actor, now, {"reason": reason, "left": count})
    return count


def go_on_after(rotation_id: UUID) -> None:
    """Have the batch of a rotation that has ended look at once, in a transaction of its own."""
    found = BatchKey.objects.filter(rotation_id=rotation_id, rotation__state__in=ENDED)
    for batch_id in found.values_list("batch_id", flat=True):
        with transaction.atomic(durable=True):
            queue.hasten(kind=JOB, subject_id=batch_id)


def look_after() -> None:
    """Promise the job again of each batch that has keys waiting and none. Called by the clock."""
    known = {subject_id for subject_id, _ in queue.open_jobs(kind=JOB)}
    waiting = BatchKey.objects.filter(batch=OuterRef("pk"), settled_at=None)
    rows = RotationBatch.objects.filter(Exists(waiting)).exclude(pk__in=known)
    for batch_id in rows.values_list("pk", flat=True):
        with transaction.atomic(durable=True):
            queue.enqueue(kind=JOB, subject_id=batch_id)


def open_at() -> dict[UUID, int]:
    """Return how many rotations are open at each Connection, whatever began them."""
    rows = Rotation.objects.exclude(state__in=ENDED).order_by().values_list("key__connection")
    return dict(rows.annotate(count=Count("pk")))


def _turn(batch_id: UUID) -> Iterator[BatchKey]:
    """Yield the next keys in order whose Connections have room, at most a turn of them.

    An open rotation that an incident cuts takes no room of another: it is among those that do.
    """
    used = open_at()
    is_open = Exists(Rotation.objects.filter(key=OuterRef("key")).exclude(state__in=ENDED))
    rows = _waiting(batch_id).select_related("key", "batch").annotate(is_open=is_open)
    left = _TURN
    for row in rows.order_by("place"):
        where = row.key.connection_id
        if not (row.is_open and row.batch.trigger == Trigger.INCIDENT):
            if used.get(where, 0) >= settings.ROTATION_PER_CONNECTION:
                continue
            used[where] = used.get(where, 0) + 1
        left -= 1
        yield row
        if not left:
            return


def _settle(row: BatchKey, run: Run) -> bool:
    """Begin the rotation of one key, or skip it; say whether it does not wait any more.

    The batch is locked against being stopped meanwhile, and the Connection
    against another batch that counts the same room.
    """
    with transaction.atomic(durable=True):
        run.fence()
        batch = _locked(row.batch_id)
        where = Connection.objects.select_for_update(no_key=True).get(pk=row.key.connection_id)
        mine = BatchKey.objects.filter(pk=row.pk, settled_at=None)
        if not mine.exists():
            return False
        is_incident = batch.trigger == Trigger.INCIDENT
        rung = hurrying.ring_open(row.key_id) if is_incident else None
        key = inventory.lock(key_id=row.key_id)
        hindrance = _hindrance(key, where, batch)
        if is_incident and hindrance == Skip.ROTATING and not _hurry(key, rung, batch, run):
            # It has ended or another has begun since; the next turn sees that.
            return False
        if hindrance is not None:
            mine.update(skipped=hindrance, settled_at=run.now)
            _record_skip(key, hindrance, batch, run)
        elif _count_at(where) < settings.ROTATION_PER_CONNECTION:
            mine.update(rotation=_begin(key, batch, run), settled_at=run.now)
        else:
            return False
    return True


def _hurry(key: Key, rung: UUID | None, batch: RotationBatch, run: Run) -> bool:
    reason = str(batch.request_id)
    return hurrying.hurry_open(key=key, rung=rung, reason=reason, actor=services.CLOCK, now=run.now)


def _record_skip(key: Key, hindrance: Skip, batch: RotationBatch, run: Run) -> None:
    ledger.record(
        "rotation.skipped",
        actor=services.CLOCK,
        subject=inventory.subject(key),
        now=run.now,
        fields={"batch": str(batch.pk), "cause": str(hindrance)},
        request_id=batch.request_id,
    )


def _begin(key: Key, batch: RotationBatch, run: Run) -> Rotation:
    return services.begin(
        key_id=key.pk,
        trigger=batch.trigger,
        request_id=batch.request_id,
        started_by=batch.started_by,
        reason=batch.reason,
        actor=services.CLOCK,
        now=run.now,
    )


def _hindrance(key: Key, where: Connection, batch: RotationBatch) -> Skip | None:
    """Return why a locked key is not rotated by its batch, or None."""
    current = versions.current(key.pk)
    if key.state != KeyState.LIVE or current is None:
        return Skip.ENDED
    if Rotation.objects.filter(key=key).exclude(state__in=ENDED).exists():
        return Skip.ROTATING
    if (current.issued_at or current.created_at) > batch.created_at:
        return Skip.RENEWED
    found = connections.capabilities(where)
    return Skip.NO_PROVIDER if found is None else _BY_SHAPE.get(found.shape)


def _count_at(where: Connection) -> int:
    return Rotation.objects.filter(key__connection=where).exclude(state__in=ENDED).count()


def _waiting(batch_id: UUID) -> QuerySet[BatchKey]:
    return BatchKey.objects.filter(batch_id=batch_id, settled_at=None)


def _locked(batch_id: UUID) -> RotationBatch:
    batch = RotationBatch.objects.select_for_update().filter(pk=batch_id).first()
    if batch is None:
        raise NotVisible(f"batch {batch_id}")
    return batch


def subject_of(batch: RotationBatch) -> Subject:
    """Return a batch as the ledger names it."""
    return Subject("rotation_batch", str(batch.pk), f"batch of {batch.started_by}")


def _record(  # noqa: PLR0917 - every caller passes all of it.
    event: str, batch: RotationBatch, actor: Actor, now: datetime, fields: dict[str, object]
) -> None:
    ledger.record(
        event,
        actor=actor,
        subject=subject_of(batch),
        now=now,
        fields={"batch": str(batch.pk), **fields},
        request_id=batch.request_id,
    )
