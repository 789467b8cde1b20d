"""Promise work inside a transaction; list what is due and what is held; take it up again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Min, Q, QuerySet
from django.db.models.functions import Now

from approvals import ports
from approvals.models import Job

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

CHANNEL = "keyvault_jobs"
_OPEN = (Job.State.READY, Job.State.RUNNING, Job.State.HELD)


class NotHeld(Exception):
    """The job runs, is done or was taken up again by somebody else."""


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job that waits for a person, with the reason in words."""

    id: int
    kind: str
    subject_id: UUID
    code: str
    sentence: str
    attempts: int
    held_at: datetime | None


def enqueue(*, kind: str, subject_id: UUID, due_at: datetime | None = None) -> int:
    """Promise one job in the caller's transaction and return its id.

    An open job of the same kind and subject is enough: its id is returned and
    nothing is added. Without `due_at` the job is due at once by the database
    clock. Raises AssertionError outside a transaction: the promise and the
    business change must commit together.
    """
    _assert_in_transaction()
    row = Job(kind=kind, subject_id=subject_id)
    if due_at is not None:
        row.due_at = due_at
    Job.objects.bulk_create([row], ignore_conflicts=True)
    job_id = Job.objects.values_list("id", flat=True).get(
        kind=kind, subject_id=subject_id, state__in=_OPEN
    )
    notify(job_id)
    return job_id


def notify(job_id: int) -> None:
    """Nudge the relay when the caller's transaction commits; losing the nudge loses nothing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, str(job_id)])


def claimable() -> QuerySet[Job]:
    """Return jobs that a worker may claim now: due, or left behind by a dead worker."""
    return Job.objects.filter(
        Q(state=Job.State.READY, due_at__lte=Now())
        | Q(state=Job.State.RUNNING, lease_until__lte=Now())
    )


def due(*, ring_again: timedelta, limit: int = 100) -> list[int]:
    """Return claimable jobs that were never rung, or not within `ring_again`; oldest first."""
    silent = Q(rung_at__isnull=True) | Q(rung_at__lte=Now() - ring_again)
    rows = claimable().filter(silent).order_by("due_at", "id")
    return list(rows.values_list("id", flat=True)[:limit])


def overdue(*, by: timedelta, limit: int = 20) -> list[int]:
    """Return claimable jobs that nobody took for `by`, whatever the queue server says."""
    late = Q(state=Job.State.READY, due_at__lte=Now() - by) | Q(
        state=Job.State.RUNNING, lease_until__lte=Now() - by
    )
    rows = claimable().filter(late).order_by("due_at", "id")
    return list(rows.values_list("id", flat=True)[:limit])


def mark_rung(job_ids: Sequence[int]) -> None:
    """Remember that a message was sent for each of these jobs."""
    Job.objects.filter(pk__in=job_ids).update(rung_at=Now())


class NotOpen(Exception):
    """The job runs, is done, or was never promised: too late to call it off."""


def open_jobs(*, kind: str) -> list[tuple[UUID, datetime]]:
    """Return subject and due time of the jobs of a kind that have not been done yet."""
    rows = Job.objects.filter(kind=kind, state__in=_OPEN).order_by("due_at", "id")
    return list(rows.values_list("subject_id", "due_at"))


def cancel(*, kind: str, subject_id: UUID) -> None:
    """Call a job off that no worker has begun, in the caller's transaction. Raises NotOpen.

    One guarded update races the worker's claim: exactly one of them wins.
    """
    _assert_in_transaction()
    waiting = Job.objects.filter(
        kind=kind, subject_id=subject_id, state__in=(Job.State.READY, Job.State.HELD)
    )
    if not waiting.update(state=Job.State.DONE, code="cancelled", ended_at=Now()):
        raise NotOpen("It has begun or is over; it can no longer be called off.")


def newest(*, kind: str, subject_id: UUID) -> tuple[str, datetime] | None:
    """Return state and time of promise of the newest job of a kind and subject."""
    row = Job.objects.filter(kind=kind, subject_id=subject_id).order_by("-id").first()
    return (row.state, row.created_at) if row else None


def oldest_due_at() -> datetime | None:
    """Return when the oldest job became due that nobody has taken; None when nothing waits.

    Its age is the one honest sign of life of the workers (celery issue 10205).
    """
    oldest: datetime | None = claimable().aggregate(oldest=Min("due_at"))["oldest"]
    return oldest


def held(*, kind: str = "", limit: int | None = 200) -> list[HeldJob]:
    """Return the jobs that wait for a person, newest first; of one kind, or of all."""
    rows = Job.objects.filter(state=Job.State.HELD, **({"kind": kind} if kind else {}))
    rows = rows.order_by("-id")[:limit]
    return [
        HeldJob(
            job.pk, job.kind, job.subject_id, job.code, job.sentence, job.attempts, job.ended_at
        )
        for job in rows
    ]


def resume(*, job_id: int, person: AbstractBaseUser, now: datetime) -> None:
    """Give a held job six fresh tries. Raises NotHeld; NotVisible when there is no such job."""
    with transaction.atomic(durable=True):
        job = Job.objects.select_for_update().filter(pk=job_id).first()
        if job is None:
            raise ports.NotVisible(f"job {job_id}")
        if job.state != Job.State.HELD:
            raise NotHeld(f"This job is {job.get_state_display().lower()}, not held.")
        _take_up(job, person=person, now=now)


def wake(*, kind: str, subject_id: UUID, person: AbstractBaseUser, now: datetime) -> None:
    """Have an open job look again at once, in the caller's transaction.

    For whoever writes what the job may be waiting for; called before that is
    written, because a worker locks its job first, too. A running job is taken
    from its worker: that one has looked already, and would otherwise hold the
    job over what is there by now. Does nothing when no such job is open.
    """
    _assert_in_transaction()
    rows = Job.objects.filter(kind=kind, subject_id=subject_id, state__in=_OPEN)
    job = rows.select_for_update().first()
    if job is not None:
        _take_up(job, person=person, now=now)


def hasten(*, kind: str, subject_id: UUID) -> None:
    """Have a job that waits look at once, because there is news; in the caller's transaction.

    A running job looks again as soon as it is through. A held one stays held:
    news are no decision of a person. Does nothing when no such job is open.
    The row is locked, so that no worker claims it between the look and the change.
    """
    _assert_in_transaction()
    rows = Job.objects.filter(kind=kind, subject_id=subject_id, state__in=_OPEN)
    job = rows.select_for_update().first()
    if job is None or job.state == Job.State.HELD:
        return
    if job.state == Job.State.RUNNING:
        Job.objects.filter(pk=job.pk).update(is_hasty=True)
        return
    Job.objects.filter(pk=job.pk, due_at__gt=Now()).update(due_at=Now(), rung_at=None)
    notify(job.pk)


def _take_up(job: Job, *, person: AbstractBaseUser, now: datetime) -> None:
    """Make a locked job ready with six fresh tries, and say by whom."""
    Job.objects.filter(pk=job.pk).update(
        state=Job.State.READY,
        attempts=0,
        due_at=Now(),
        rung_at=None,
        lease_until=None,
        ended_at=None,
    )
    ports.recorder().record(
        "job.resumed",
        actor=ports.directory().actor(person.pk),
        subject=ports.Subject("job", str(job.pk), job.kind),
        now=now,
        fields={"kind": job.kind},
        request_id=request_of(job.kind, job.subject_id),
    )
    notify(job.pk)


def request_of(kind: str, subject_id: UUID) -> UUID | None:
    """Return the request that a job serves: jobs named `request.*` have it as their subject."""
    return subject_id if kind.startswith("request.") else None


def _assert_in_transaction() -> None:
    if not connection.in_atomic_block:
        raise AssertionError("a job is promised inside the transaction of what it serves")
