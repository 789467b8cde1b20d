"""Claim a job by compare-and-set, and fence every later write by the claim's epoch."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from approvals import ports
from approvals.models import Job
from approvals.queue import backoff
from approvals.queue.rows import claimable


def lease() -> timedelta:
    """Return how long a claim holds without a fence; longer than any single outside call."""
    return timedelta(seconds=getattr(settings, "APPROVALS_LEASE_S", 60))


@dataclass(frozen=True, slots=True)
class Claim:
    """One claimed try of one job; it is the `ports.Run` that a handler gets."""

    job_id: int
    kind: str
    subject_id: UUID
    epoch: int
    attempts: int
    now: datetime

    @property
    def is_last(self) -> bool:
        """Say whether the job is held for a person if this try fails."""
        return self.attempts >= backoff.TRIES

    def fence(self) -> None:
        """Renew the lease, or raise LostClaim when another worker holds the job.

        Inside a transaction the row stays locked until commit, so that no
        other worker can take the job between this check and what it guards.
        """
        if not self.row().update(lease_until=Now() + lease()):
            raise ports.LostClaim(f"job {self.job_id} is no longer held in epoch {self.epoch}")

    def reached(self, point: str) -> None:
        """Mark a step as passed; crash tests end the process here."""
        crash_at(point)

    def row(self) -> QuerySet[Job]:
        """Return the query that matches this job only while this claim holds it."""
        return Job.objects.filter(pk=self.job_id, epoch=self.epoch, state=Job.State.RUNNING)


def claim(job_id: int, *, worker: str, now: datetime) -> Claim | None:
    """Claim a due job: exactly one caller gets it; everybody else gets None.

    The lease starts and is compared by the database clock only. The try is
    counted here, so that a worker that dies counts as a failed try.
    """
    seen = claimable().filter(pk=job_id).first()
    if seen is None:
        return None
    won = (
        claimable()
        .filter(pk=job_id, epoch=seen.epoch)
        .update(
            state=Job.State.RUNNING,
            epoch=F("epoch") + 1,
            attempts=F("attempts") + 1,
            lease_until=Now() + lease(),
            worker=worker[:120],
        )
    )
    if not won:
        return None
    return Claim(job_id, seen.kind, seen.subject_id, seen.epoch + 1, seen.attempts + 1, now)


def crash_at(point: str) -> None:
    """End this process without any clean-up if `KV_CRASH_AT` names this point.

    The form is `POINT` or `POINT@FILE`; with a file the crash happens once
    only, because the file is left behind as the mark.
    """
    wanted, _, mark = os.environ.get("KV_CRASH_AT", "").partition("@")
    if wanted != point or (mark and Path(mark).exists()):
        return
    if mark:
        Path(mark).touch()
    os.kill(os.getpid(), signal.SIGKILL)
