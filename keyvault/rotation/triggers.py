"""What begins rotations by itself: the cadence that was approved with a key, and what brings it forward.

Called by the clock. The due time is the slot: (key, slot) is unique, so that two
clocks begin one rotation and a rotation that went back is not begun again by
itself.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef

from approvals import queue
from keyvault.connections import selectors as connections
from keyvault.connections.models import Connection
from keyvault.inventory.models import Key, KeyState
from keyvault.providers.base import Shape
from keyvault.rotation import batches, probes, running, schedules, services
from keyvault.rotation.models import ENDED, Rotation, Trigger
from keyvault.rotation.saga import Cause, State
from keyvault.vault import selectors as versions

log = logging.getLogger(__name__)
AT_ONCE = 100
STARTED_BY = "Schedule"
_WORDS = {"cadence": Trigger.CADENCE, schedules.EXPIRY: Trigger.EXPIRY}


def run(now: datetime) -> int:
    """Begin what is due, at most 100; return how many. Look after jobs that were lost."""
    schedules.bring_forward(now)
    schedules.try_anew(now)
    begun = sum(_begin(key, now) for key in _due(now))
    _look_after(now)
    batches.look_after()
    schedules.tell_missed(now)
    return begun


def _due(now: datetime) -> list[Key]:
    rotations = Rotation.objects.filter(key=OuterRef("pk"))
    rows = Key.objects.filter(state=KeyState.LIVE, rotation_due_at__lte=now)
    rows = rows.exclude(Exists(rotations.exclude(state__in=ENDED)))
    rows = rows.exclude(Exists(rotations.filter(slot=OuterRef("rotation_due_at"))))
    # What cannot begin stays due, and must not take the room of what can.
    where = Connection.objects.filter(pk__in=rows.values("connection"))
    idle = [row.pk for row in where if not _rotates(row)]
    rows = rows.exclude(connection__in=idle).select_related("connection")
    return list(rows.order_by("rotation_due_at", "pk")[:AT_ONCE])


def _rotates(where: Connection) -> bool:
    found = connections.capabilities(where)
    return found is not None and found.shape != Shape.EPHEMERAL


def _begin(key: Key, now: datetime) -> bool:
    """Begin one rotation; say whether it was begun here."""
    try:
        with transaction.atomic(durable=True):
            services.begin(
                key_id=key.pk,
                trigger=_WORDS.get(key.rotation_cause, Trigger.SEEN),
                request_id=key.request_id or key.pk,
                started_by=STARTED_BY,
                reason=key.rotation_cause,
                slot=key.rotation_due_at,
                actor=services.CLOCK,
                now=now,
            )
    except (services.AlreadyRotating, services.NotRotatable, IntegrityError):
        # Another clock was faster, or the key has ended since the look.
        return False
    except Exception as error:  # noqa: BLE001 - one key must keep no other from its day.
        # That it has not begun is told by `schedules.tell_missed`.
        log.error("rotation of key %s did not begin: %s", key.pk, type(error).__name__)  # noqa: TRY400
        return False
    return True


def _look_after(now: datetime) -> None:
    """Hold rotations whose job has given up, ring for those that have none, end the needless."""
    held = {job.subject_id: job for job in queue.held(kind=services.JOB, limit=None)}
    waiting = {subject_id for subject_id, _ in queue.open_jobs(kind=services.JOB)}
    rows = Rotation.objects.exclude(state__in=ENDED).filter(since__lt=now).select_related("key")
    for rotation in rows:
        job = held.get(rotation.pk)
        is_stuck = rotation.state == State.HELD or job is not None
        if rotation.key.state == KeyState.REVOKED and is_stuck:
            _end(rotation, now)
        elif rotation.state == State.HELD:
            _ring_if_over(rotation)
            _ring_if_off(rotation)
        elif job is not None and job.code not in services.BY_HAND:
            _hold(rotation, job.sentence, now)
        elif rotation.pk not in waiting:
            with transaction.atomic():
                queue.enqueue(kind=services.JOB, subject_id=rotation.pk)


def _end(rotation: Rotation, now: datetime) -> None:
    """Have the rotation of a revoked key come to its end, also one that waits for a person."""
    # It may move since the look, and then nothing is stuck.
    with suppress(services.WrongMoment), transaction.atomic(durable=True):
        services.ring(rotation.pk)
        if rotation.state == State.HELD:
            services.enter(rotation, State.ROLLING_BACK, cause=Cause.KEY_ENDED, now=now)


def _ring_if_over(rotation: Rotation) -> None:
    """Have the job go on with a held rotation, once those whom it waited for have come.

    Who says over HTTP whether they have is asked by the job.
    """
    if rotation.cause == Cause.UNCONFIRMED and running.is_over(rotation):
        with transaction.atomic(durable=True):
            services.ring(rotation.pk)
    elif probes.is_to_be_asked(rotation):
        with transaction.atomic(durable=True):
            queue.enqueue(kind=services.JOB, subject_id=rotation.pk)
            queue.hasten(kind=services.JOB, subject_id=rotation.pk)


def _ring_if_off(rotation: Rotation) -> None:
    """Have the old version switched on that was off when the rotation was held."""
    if rotation.held_from != State.BROWNOUT or rotation.old_id is None:
        return
    old = versions.version(rotation.old_id)
    if old.suspended_at is not None and not old.has_ended:
        with transaction.atomic(durable=True):
            queue.enqueue(kind=services.JOB, subject_id=rotation.pk)


def _hold(rotation: Rotation, sentence: str, now: datetime) -> None:
    # As above.
    with suppress(services.WrongMoment), transaction.atomic(durable=True):
        services.enter(rotation, State.HELD, cause=Cause.STOPPED, sentence=sentence, now=now)
