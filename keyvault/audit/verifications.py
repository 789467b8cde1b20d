"""Verification runs: asked for on a page or the command line, done by a worker, kept with their result."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from approvals import queue
from approvals.ports import Actor, Run, Subject
from keyvault.audit import ledger, verify
from keyvault.audit.models import VerificationRun

KIND = "audit.verify"
State = VerificationRun.State


def ask(*, actor: Actor, now: datetime) -> UUID:
    """Queue a verification and return its id; one that is still to come is returned instead."""
    with transaction.atomic(durable=True):
        open_run = VerificationRun.objects.filter(state=State.WAITING).first()
        if open_run:
            return open_run.id
        run = _new(actor, now)
        queue.enqueue(kind=KIND, subject_id=run.id, due_at=now)
        return run.id


def perform(
    *, actor: Actor, now: datetime, report: verify.Report | None
) -> tuple[VerificationRun, verify.Result]:
    """Verify at once in this process, as the command line does."""
    with transaction.atomic(durable=True):
        run = _new(actor, now)
    return run, _work(run, now=now, report=report)


@queue.handler(KIND)
def work(run_id: UUID, job: Run) -> None:
    """Do a queued verification: the handler of the job kind `audit.verify`. Raises LostClaim."""
    run = VerificationRun.objects.get(id=run_id)
    if run.state in (State.WAITING, State.RUNNING):
        # A long ledger outlasts the lease: each step renews it, or stops where it was lost.
        _work(run, now=job.now, report=None, fence=job.fence)


def get(run_id: UUID) -> VerificationRun:
    """Return one run. Raises LookupError."""
    run = VerificationRun.objects.filter(id=run_id).first()
    if run is None:
        raise LookupError(f"there is no verification {run_id}")
    return run


def recent(limit: int = 20) -> list[VerificationRun]:
    """Return the newest runs first."""
    return list(VerificationRun.objects.order_by("-asked_at")[:limit])


def _new(actor: Actor, now: datetime) -> VerificationRun:
    snapshot = {"kind": actor.kind, "id": actor.id, "label": actor.label}
    return VerificationRun.objects.create(actor=snapshot, asked_at=now)


def _work(
    run: VerificationRun,
    *,
    now: datetime,
    report: verify.Report | None,
    fence: Callable[[], None] = lambda: None,
) -> verify.Result:
    rows = VerificationRun.objects.filter(id=run.id)
    rows.update(state=State.RUNNING)

    def note(progress: verify.Progress) -> None:
        fence()
        rows.update(checked=progress.checked, total=progress.total)
        if report:
            report(progress)

    result = verify.verify(now, report=note)
    state = State.INTACT if result.is_intact else State.BROKEN
    with transaction.atomic(durable=True):
        fence()
        rows.update(
            state=state,
            finished_at=Now(),
            total=result.size,
            checked=result.size,
            checkpoints=result.checkpoints,
            events_per_s=result.events_per_s,
            problems=[problem.to_json() for problem in result.problems],
        )
        _record(run, result, state, now)
    run.refresh_from_db()
    return result


def _record(run: VerificationRun, result: verify.Result, state: str, now: datetime) -> None:
    ledger.record(
        "audit.verified",
        actor=Actor(**run.actor),
        subject=Subject("verification", str(run.id), "the ledger"),
        now=now,
        outcome="ok" if result.is_intact else "error",
        fields={
            "events": result.size,
            "checkpoints": result.checkpoints,
            "reads": result.reads,
            "state": state,
            "problems": len(result.problems),
            "events_per_s": result.events_per_s,
        },
    )
