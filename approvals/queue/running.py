"""Run one claimed job and settle it: done, tried again later, or held for a person."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Case, When
from django.db.models.functions import Now

from approvals import ports
from approvals.models import Job
from approvals.queue import backoff, claims
from approvals.queue.claims import Claim
from approvals.queue.rows import request_of

Handler = Callable[[UUID, ports.Run], None]

log = logging.getLogger(__name__)
_handlers: dict[str, Handler] = {}

_SYSTEM = ports.Actor("system", "queue", "Job queue")
_CRASHED = ("crashed", "The worker died in every one of six tries.")


def handler(kind: str) -> Callable[[Handler], Handler]:
    """Register the function that does jobs of a kind. A second one for a kind raises."""

    def register(function: Handler) -> Handler:
        if _handlers.setdefault(kind, function) is not function:
            raise ValueError(f"two handlers are registered for {kind}")
        return function

    return register


def run(job_id: int, *, worker: str, now: datetime) -> bool:
    """Claim a job, do it and settle it; say whether the claim was ours.

    A duplicate message, a job that is not due and an unknown id end here
    without effect. No exception of a handler leaves this function: one bad
    handler must not stop the worker that other jobs wait for.
    """
    claim = claims.claim(job_id, worker=worker, now=now)
    if claim is None:
        return False
    if claim.attempts > backoff.TRIES:
        hold(claim, *_CRASHED)
        return True
    try:
        _do(claim)
    except ports.LostClaim:
        log.warning("job %s was taken over; nothing of this try was kept", job_id)
    return True


def _do(claim: Claim) -> None:
    try:
        _find(claim.kind)(claim.subject_id, claim)
    except ports.LostClaim:
        raise
    except ports.Later as pause:
        come_again(claim, pause.wait_s)
    except (ports.NeedsPerson, ports.CannotExecute) as stop:
        hold(claim, stop.code, stop.sentence)
    except ports.Unfinished as stop:
        try_later(claim, stop.code, stop.sentence)
    except Exception as error:  # noqa: BLE001 - see `run`: the row takes the blame, the worker lives on.
        # The message of a foreign exception may hold a secret: only its type is kept.
        log.error("job %s (%s) failed: %s", claim.job_id, claim.kind, type(error).__name__)  # noqa: TRY400
        try_later(claim, "fault", f"A fault in keyvault stopped this try ({type(error).__name__}).")
    else:
        settle(claim, state=Job.State.DONE, code="", sentence="")


def _find(kind: str) -> Handler:
    if kind not in _handlers:
        raise ports.NeedsPerson("no_handler", f"This version has no handler for {kind}.")
    return _handlers[kind]


def try_later(claim: Claim, code: str, sentence: str) -> None:
    """Back off with full jitter, or hold after the sixth try. Raises LostClaim."""
    if claim.attempts >= backoff.TRIES:
        hold(claim, code, sentence)
        return
    wait = backoff.delay(claim.attempts)
    changed = claim.row().update(
        state=Job.State.READY,
        due_at=Now() + wait,
        rung_at=None,
        lease_until=None,
        code=code[:60],
        sentence=sentence,
    )
    _need(claim, changed)


def come_again(claim: Claim, wait_s: float) -> None:
    """Have the job look again after `wait_s` seconds; its tries start anew. Raises LostClaim.

    A row that was hastened while it ran is due at once.
    """
    changed = claim.row().update(
        state=Job.State.READY,
        due_at=Case(
            When(is_hasty=True, then=Now()),
            default=Now() + timedelta(seconds=wait_s),
        ),
        is_hasty=False,
        attempts=0,
        rung_at=None,
        lease_until=None,
        code="",
        sentence="",
    )
    _need(claim, changed)


def hold(claim: Claim, code: str, sentence: str) -> None:
    """Set the job aside for a person and say so in the ledger. Raises LostClaim."""
    with transaction.atomic():
        settle(claim, state=Job.State.HELD, code=code, sentence=sentence)
        ports.recorder().record(
            "job.held",
            actor=_SYSTEM,
            subject=ports.Subject("job", str(claim.job_id), claim.kind),
            now=claim.now,
            fields={
                "kind": claim.kind,
                "code": code[:60],
                "sentence": sentence,
                "attempts": claim.attempts,
            },
            outcome="error",
            request_id=request_of(claim.kind, claim.subject_id),
        )


def settle(claim: Claim, *, state: Job.State, code: str, sentence: str) -> None:
    """End this try in a state. Raises LostClaim when another worker holds the job."""
    changed = claim.row().update(
        state=state, code=code[:60], sentence=sentence, lease_until=None, ended_at=Now()
    )
    _need(claim, changed)


def _need(claim: Claim, changed: int) -> None:
    if not changed:
        raise ports.LostClaim(f"job {claim.job_id} is no longer held in epoch {claim.epoch}")
