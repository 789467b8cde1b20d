"""Decide: one person, one revision, one fresh factor, judged under the lock of the request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from django.db import transaction

from approvals import digests, ports, queue, receipts
from approvals.models import Decision, Request
from approvals.policy.judging import Judgement, Ruling, Verdict, Vote
from approvals.policy.rules import Rules
from approvals.selectors import access_request, ballots
from approvals.selectors.access import why_not_vote
from approvals.selectors.ballots import Ballot
from approvals.services import states
from approvals.services.states import BadText, Closed, check_text

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

JSON = Any

NEXT = {
    Ruling.APPROVED: Request.State.APPROVED,
    Ruling.REJECTED: Request.State.REJECTED,
    Ruling.CHANGES: Request.State.CHANGES_ASKED,
    Ruling.PENDING: Request.State.PENDING,
}


class Stale(Exception):
    """The plan moved since the page was drawn; nothing was recorded. Carries the request."""

    def __init__(self, request: Request) -> None:
        super().__init__(f"{request.label} has changed since you opened it. Nothing was recorded.")
        self.request = request


class NotEligible(Exception):
    """An act is not for this person; the sentence says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


def decide(
    *,
    request_id: UUID,
    person: AbstractBaseUser,
    verdict: str,
    plan_digest: str,
    proof_id: UUID,
    comment: str = "",
    seen: Mapping[str, JSON] | None = None,
    now: datetime,
) -> Decision:
    """Record a decision and do what all decisions together amount to.

    A replay of a decision that stands changes nothing and returns it. Raises
    NotVisible, Closed, Stale, NotEligible, BadText, ports.NotPresent, and
    ports.NotBound while no receipt can be signed; then nothing is recorded.
    """
    with transaction.atomic(durable=True):
        access_request(person, request_id)
        request = states.lock(request_id)
        standing = decided_alike(request, person, verdict=verdict, plan_digest=plan_digest)
        if standing is not None:
            return standing
        ballot = may_decide(request, person, plan_digest=plan_digest, now=now)
        words = check_comment(ballot.rules, verdict, comment)
        proof = _consume(request, person, verdict, proof_id=proof_id, rules=ballot.rules, now=now)
        vote = Vote(person.pk, Verdict(verdict), ballot.judgement.open_stage)
        judgement = ballots.count(ballot.rules, ballot.facts, (*ballot.votes, vote)).judgement
        decision = _decision(request, person, ballot=ballot, judgement=judgement, vote=vote)
        decision.comment, decision.decided_at = words, now
        decision.seen = dict(seen or {})
        _seal(request, decision, proof=proof, judgement=judgement, now=now)
        _follow(request, decision, judgement=judgement, now=now)
        return decision


def decided_alike(
    request: Request, person: AbstractBaseUser, *, verdict: str, plan_digest: str
) -> Decision | None:
    """Return the decision that this one would only repeat."""
    return request.decisions.filter(
        person_id=person.pk, verdict=verdict, plan_digest=plan_digest
    ).first()


def may_decide(
    request: Request, person: AbstractBaseUser, *, plan_digest: str, now: datetime
) -> Ballot:
    """Return the ballot if this person may decide on this digest now.

    Raises Closed, Stale or NotEligible. Views call it before they ask for a
    factor, so that nobody spends a code on a decision that cannot be recorded.
    """
    if request.state not in Request.UNDECIDED or request.expires_at <= now:
        raise Closed(request)
    if request.plan_digest != plan_digest:
        raise Stale(request)
    if request.state != Request.State.PENDING:
        raise Closed(request)
    ballot = ballots.read(request, now=now)
    reason = why_not_vote(ballot, person.pk)
    if reason:
        raise NotEligible(reason)
    return ballot


def check_comment(rules: Rules, verdict: str, comment: str) -> str:
    """Return the comment stripped. Raises BadText when the policy wants one, or on a bad verdict."""
    if verdict not in set(Verdict):
        raise BadText("verdict", "Choose a decision first.")
    is_needed = {
        Verdict.APPROVE: rules.comment_on_approve,
        Verdict.REJECT: rules.comment_on_reject,
        Verdict.CHANGES: True,
    }[Verdict(verdict)]
    return check_text("comment", comment, is_needed=is_needed, name="A note to the requester")


def _consume(
    request: Request,
    person: AbstractBaseUser,
    verdict: str,
    *,
    proof_id: UUID,
    rules: Rules,
    now: datetime,
) -> ports.Proof:
    """Use the fresh factor up; it must be bound to this verdict on this plan, and young enough."""
    digest = digests.decide_digest(
        request_id=request.pk, plan_digest=request.plan_digest, verdict=verdict
    )
    proof = ports.presence().consume(proof_id, person_id=person.pk, digest=digest, now=now)
    if (now - proof.proved_at).total_seconds() > rules.factor_age_s:
        raise ports.NotPresent("Your code is older than this policy allows. Enter a new one.")
    return proof


def _decision(
    request: Request,
    person: AbstractBaseUser,
    *,
    ballot: Ballot,
    judgement: Judgement,
    vote: Vote,
) -> Decision:
    """Return the unsaved decision with the stage it counts for."""
    chair = judgement.seated.get(ballot.voters.human(person.pk))
    seats = ballot.voters.seats.get(person.pk, frozenset())
    stage = chair.stage if chair else min((seat.stage for seat in seats), default=0)
    return Decision(
        id=uuid4(),
        request=request,
        revision=request.revision,
        person_id=person.pk,
        person_label=ports.directory().actor(person.pk).label,
        requester_id=request.requester_id,
        verdict=vote.verdict.value,
        stage=vote.stage if ballot.rules.ordered else stage,
        solo=person.pk in ballot.voters.solo,
        plan_digest=request.plan_digest,
    )


def _seal(
    request: Request,
    decision: Decision,
    *,
    proof: ports.Proof,
    judgement: Judgement,
    now: datetime,
) -> None:
    """Sign the receipt, insert the row and write the event."""
    state = NEXT[judgement.ruling].value
    decision.method = proof.method
    decision.age_s = max(0, int((now - proof.proved_at).total_seconds()))
    decision.seen_digest = digests.sha256(decision.seen)
    decision.receipt = receipts.word(request, decision, proof=proof, state=state)
    decision.signature = receipts.sign(decision.receipt)
    decision.save(force_insert=True)
    _record(request, decision, state=state, now=now)


def _record(request: Request, decision: Decision, *, state: str, now: datetime) -> None:
    states.record(
        "request.decided",
        request,
        actor=ports.directory().actor(decision.person_id),
        now=now,
        fields={
            "verdict": decision.verdict,
            "plan_digest": decision.plan_digest,
            "revision": decision.revision,
            "method": decision.method,
            "age_s": decision.age_s,
            "stage": decision.stage,
            "comment": decision.comment,
            "receipt_digest": digests.sha256(decision.receipt),
            "solo": decision.solo,
            "state": state,
        },
    )


def _follow(request: Request, decision: Decision, *, judgement: Judgement, now: datetime) -> None:
    """Do what the votes amount to: run it, close it, give it back, or go on waiting."""
    if judgement.ruling == Ruling.APPROVED:
        states.move(request, Request.State.APPROVED, decided_at=now)
        queue.enqueue(kind=states.EXECUTE, subject_id=request.pk)
    elif judgement.ruling == Ruling.REJECTED:
        who = decision.person_label
        states.end(
            request, Request.State.REJECTED, now=now, code="rejected", sentence=f"{who} said no."
        )
    elif judgement.ruling == Ruling.CHANGES:
        states.move(request, Request.State.CHANGES_ASKED)
    queue.enqueue(kind=states.TELL, subject_id=request.pk)
