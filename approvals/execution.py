"""Run an approved request exactly once, and settle what came of it.

Approved becomes executing in one transaction that looks again at everything
an approval rests on: the stored bytes, the signatures, who the approvers are
now, and the plan against the world of this moment. A resumed run renders no
plan again, because its own effects have changed it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from approvals import digests, ports, queue, receipts
from approvals.models import Request
from approvals.policy import matching
from approvals.policy.judging import Ruling
from approvals.policy.rules import Auto, Rules, strictness
from approvals.selectors import ballots, deciders, history
from approvals.services import asking, states


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why an approved request must not run: a code and a sentence for its page."""

    code: str
    sentence: str


@queue.handler(states.EXECUTE)
def execute(request_id: UUID, run: ports.Run) -> None:
    """Run a request that this job was promised for. Raises Unfinished, NeedsPerson, LostClaim."""
    try:
        action = start(request_id, run)
        if action is None:
            return
        run.reached("execute:claimed")
        outcome = action.execute(request_id=request_id, run=run)
    except ports.CannotExecute as stop:
        fail(request_id, stop, run)
        return
    run.reached("execute:acted")
    finish(request_id, outcome, run)


def start(request_id: UUID, run: ports.Run) -> ports.Action | None:
    """Claim the request for this run and return its action; None when it must not run.

    Raises LostClaim, CannotExecute when the stored bytes of a request that has
    started were changed, and NotBound while the server is sealed: a signature
    that cannot be checked is no approval.
    """
    with transaction.atomic(durable=True):
        run.fence()
        request = _find(request_id, run)
        if request is None:
            return None
        if request.state == Request.State.EXECUTING:
            return _resumed(request, run)
        if request.state != Request.State.APPROVED:
            _refuse(request, run)
            return None
        flaw = _flaw(request, run)
        if flaw is not None:
            _invalidate(request, flaw, run)
            return None
        states.move(request, Request.State.EXECUTING, started_at=run.now)
        states.record(
            "request.executing",
            request,
            actor=states.WORKER,
            now=run.now,
            fields={"plan_digest": request.plan_digest, "attempt": 1},
        )
        return ballots.action_of(request)


def finish(request_id: UUID, outcome: ports.Outcome, run: ports.Run) -> None:
    """Settle a request as done. Raises LostClaim, so that a paused worker settles nothing."""
    with transaction.atomic(durable=True):
        run.fence()
        request = states.lock(request_id)
        if request.state != Request.State.EXECUTING:
            return
        told = {"sentence": outcome.sentence, "facts": dict(outcome.facts)}
        states.move(request, Request.State.DONE, ended_at=run.now, outcome=told)
        states.record(
            "request.done",
            request,
            actor=states.WORKER,
            now=run.now,
            fields={"sentence": outcome.sentence},
        )
        queue.enqueue(kind=states.TELL, subject_id=request.pk)


def fail(request_id: UUID, stop: ports.Unfinished, run: ports.Run) -> None:
    """Settle a request as failed, with its typed reason. Raises LostClaim."""
    with transaction.atomic(durable=True):
        run.fence()
        request = states.lock(request_id)
        if request.state != Request.State.EXECUTING:
            return
        states.record(
            "request.failed",
            request,
            actor=states.WORKER,
            now=run.now,
            fields={"code": stop.code, "sentence": stop.sentence},
            outcome="error",
        )
        states.end(
            request, Request.State.FAILED, now=run.now, code=stop.code, sentence=stop.sentence
        )
        queue.enqueue(kind=states.TELL, subject_id=request.pk)


def _resumed(request: Request, run: ports.Run) -> ports.Action:
    """Return the action of a request that has started, if it is still the one approved."""
    flaw = _tampered(request, run)
    if flaw is not None:
        raise ports.CannotExecute(flaw.code, flaw.sentence)
    return ballots.action_of(request)


def _find(request_id: UUID, run: ports.Run) -> Request | None:
    try:
        return states.lock(request_id)
    except ports.NotVisible:
        _record_refused(ports.Subject("request", str(request_id), "unknown"), "unknown", run)
        return None


def _refuse(request: Request, run: ports.Run) -> None:
    """Do nothing but say so: somebody rang for a request that is not approved (R20)."""
    if request.state in (Request.State.DONE, Request.State.FAILED):
        return
    _record_refused(states.subject(request), request.state, run, request_id=request.pk)


def _record_refused(
    subject: ports.Subject, cause: str, run: ports.Run, *, request_id: UUID | None = None
) -> None:
    ports.recorder().record(
        "job.refused",
        actor=states.WORKER,
        subject=subject,
        now=run.now,
        fields={"kind": states.EXECUTE, "cause": cause},
        outcome="refused",
        request_id=request_id,
    )


def _invalidate(request: Request, flaw: Flaw, run: ports.Run) -> None:
    """Close the request because what was approved is not what would happen."""
    states.record(
        "request.invalidated",
        request,
        actor=states.WORKER,
        now=run.now,
        fields={"cause": flaw.code},
        outcome="refused",
    )
    drift = request.drift
    states.end(
        request, Request.State.INVALIDATED, now=run.now, code=flaw.code, sentence=flaw.sentence
    )
    Request.objects.filter(pk=request.pk).update(drift=drift)
    queue.enqueue(kind=states.TELL, subject_id=request.pk)


def _flaw(request: Request, run: ports.Run) -> Flaw | None:
    """Return the first thing that an approval rests on and that no longer holds."""
    checks: tuple[Callable[[Request, ports.Run], Flaw | None], ...] = (
        _tampered,
        _too_old,
        _unsupported,
        _drifted,
        _outgrown,
    )
    for check in checks:
        flaw = check(request, run)
        if flaw is not None:
            return flaw
    return None


def _tampered(request: Request, _run: ports.Run) -> Flaw | None:
    if digests.plan_digest(asking.material(request)) == request.plan_digest:
        return None
    return Flaw(
        "digest_mismatch",
        "The stored request is not the one that was approved: it was changed in the database. "
        "Nothing more was done.",
    )


def _too_old(request: Request, run: ports.Run) -> Flaw | None:
    rules = Rules.from_json(request.policy_version.body)
    decided_at = request.decided_at or request.created_at
    if run.now - decided_at <= timedelta(seconds=rules.freshness_s):
        return None
    return Flaw("stale_approval", "The approval was too old to start on. Ask again.")


def _unsupported(request: Request, run: ports.Run) -> Flaw | None:
    """Judge again who approved: rights lost since the decision take their votes along (R16)."""
    rules = Rules.from_json(request.policy_version.body)
    if rules.auto == Auto.APPROVE:
        return _judged_by_nobody(request)
    rows = request.decisions.filter(revision=request.revision)
    if not all(receipts.is_genuine(decision) for decision in rows):
        return Flaw(
            "forged_decision", "A decision on this request was not signed here. Nothing was done."
        )
    ballot = ballots.read(request, now=run.now)
    if ballot.judgement.ruling == Ruling.APPROVED:
        return None
    lost = [
        decision.person_label
        for decision in rows
        if not ballot.voters.may_decide(decision.person_id)
    ]
    who = " and ".join(lost) or "An approver"
    return Flaw(
        "approver_lost",
        f"{who} may no longer approve this, so the quorum does not hold any more. Ask again.",
    )


def _judged_by_nobody(request: Request) -> Flaw | None:
    """Let an approval without people pass only where the rules of now give it, too."""
    try:
        ruling = deciders.governing(ballots.action_of(request))
    except matching.NoPolicy:
        ruling = None
    except history.GONE:
        return None  # What is gone is said by the next check.
    if ruling is not None and Rules.from_json(ruling.body).auto == Auto.APPROVE:
        return None
    return Flaw("policy_changed", "By the policies of now people must approve this. Ask again.")


def _drifted(request: Request, _run: ports.Run) -> Flaw | None:
    """Render the plan again, this once, and compare it with the one that was signed."""
    try:
        now_plan = ballots.action_of(request).describe().to_json()
    except history.GONE:
        return Flaw("gone", "What this was about does not exist any more. Nothing was done.")
    if digests.sha256(now_plan) == digests.sha256(request.plan):
        return None
    request.drift = now_plan
    return Flaw(
        "drift",
        "What would happen is no longer what was approved. The page shows what changed. Ask again.",
    )


def _outgrown(request: Request, _run: ports.Run) -> Flaw | None:
    """Stop an act that has come to concern what stricter rules guard, though its plan is the same.

    Both sides are matched with the policies of now, so that an edit of one
    stops nothing that was decided before.
    """
    then = {name: frozenset(values) for name, values in request.attributes.items()}
    try:
        was = Rules.from_json(deciders.governing_of(request.kind, then).body)
    except matching.NoPolicy:
        return None  # It goes on under the policy that it was decided by.
    try:
        rules = Rules.from_json(deciders.governing(ballots.action_of(request)).body)
    except matching.NoPolicy:
        rules = None
    if rules is not None and strictness(rules) <= strictness(was):
        return None
    return Flaw("judged_anew", "Stricter rules hold for what this concerns by now. Ask again.")
