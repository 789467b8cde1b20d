"""The one gate to a request: the object, or the same refusal as for one that does not exist."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import QuerySet

from approvals import ports
from approvals.models import Decision, Request
from approvals.policy.eligibility import STRANGER
from approvals.selectors import ballots
from approvals.selectors.ballots import Ballot

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser


@dataclass(frozen=True, slots=True)
class Stand:
    """Whether a person may decide about a request now; `why_not` says it in words."""

    may: bool
    why_not: str
    decision: Decision | None
    is_alone: bool = False


def access_request(person: AbstractBaseUser, request_id: UUID) -> Request:
    """Return a request that this person may see. Raises NotVisible, whatever the reason.

    The requester, everybody who decided and whom the action itself lets see may
    always look; the people of its stages may while it is open (R19).
    """
    request = (
        Request.objects.select_related("requester", "policy_version__policy")
        .filter(pk=request_id)
        .first()
    )
    if request is None or not may_see(person, request):
        raise ports.NotVisible(f"request {request_id}")
    return request


def access_asked(asker: ports.Actor, request_id: UUID) -> Request:
    """Return a request that this machine has made. Raises NotVisible, whatever the reason."""
    request = asked_by(asker).filter(pk=request_id).first()
    if request is None:
        raise ports.NotVisible(f"request {request_id}")
    return request


def asked_by(asker: ports.Actor) -> QuerySet[Request]:
    """Return the requests that a machine has made, newest first."""
    return (
        Request.objects.filter(asked_by_kind=asker.kind, asked_by_id=asker.id)
        .select_related("requester", "policy_version__policy")
        .order_by("-number")
    )


def open_count(asker: ports.Actor) -> int:
    """Return how many requests of a machine are open. The caller holds what makes it a limit."""
    return asked_by(asker).filter(state__in=Request.OPEN).order_by().count()


def may_see(person: AbstractBaseUser, request: Request) -> bool:
    """Say whether a person may see a request; the rule behind `access_request`."""
    if took_part(person, request) or ballots.action_of(request).visible_to(person.pk):
        return True
    return _is_open_to(person, request)


def may_comment(person: AbstractBaseUser, request: Request) -> bool:
    """Say whether a person who sees a request may write about it too.

    Whoever is here to look only writes where they ask or decide, and nowhere else.
    """
    if not ports.directory().only_looks(person.pk) or took_part(person, request):
        return True
    return _is_open_to(person, request)


def took_part(person: AbstractBaseUser, request: Request) -> bool:
    """Say whether a person asked or decided, from decisions that were read with the request."""
    decided = {row.person_id for row in request.decisions.all()}
    return person.pk == request.requester_id or person.pk in decided


def _is_open_to(person: AbstractBaseUser, request: Request) -> bool:
    """Say whether it is open and the person sits in a stage, be it barred from deciding for now."""
    if not request.is_open:
        return False
    # Who belongs to a stage does not depend on the hour, so any moment does.
    ballot = ballots.read(request, now=request.revised_at)
    return ballot.voters.why_not(person.pk) != STRANGER


def standing(
    request: Request, person: AbstractBaseUser, *, now: datetime, ballot: Ballot | None = None
) -> Stand:
    """Say whether a person may decide about a request now, or in words why not."""
    ballot = ballot or ballots.read(request, now=now)
    decision = request.decisions.filter(person_id=person.pk, revision=request.revision).first()
    why_not = closed(request, now=now) or why_not_vote(ballot, person.pk)
    if decision is not None and not closed(request, now=now):
        why_not = f"You {decision.get_verdict_display().lower()} on this revision already."
    return Stand(not why_not, why_not, decision, person.pk in ballot.voters.solo)


def why_not_vote(ballot: Ballot, person_id: UUID) -> str:
    """Return why this person's decision would not count now; nothing when it would."""
    reason = ballot.voters.why_not(person_id)
    if reason or person_id in ballot.voters.solo:
        return reason
    human = ballot.voters.human(person_id)
    if human in {ballot.voters.human(vote.person_id) for vote in ballot.votes}:
        return "You have decided about this revision, with this or another account of yours."
    if not ballot.rules.ordered:
        return ""
    turn = ballot.judgement.open_stage
    if turn in {seat.stage for seat in ballot.voters.seats[person_id]}:
        return ""
    name = ballot.rules.stages[turn].name if turn < len(ballot.rules.stages) else ""
    return f"It is not your turn: {name} decides first." if name else "Nothing is left to decide."


def closed(request: Request, *, now: datetime) -> str:
    """Return why nobody can decide about this request any more or for now; or nothing."""
    if request.state == Request.State.CHANGES_ASKED:
        return "Changes were asked. It comes back to you when the asker has sent a revision."
    if request.state != Request.State.PENDING:
        return f"This request is {request.get_state_display().lower()}; nothing is left to decide."
    if request.expires_at <= now:
        return "The time to decide is over; this request lapses."
    return ""
