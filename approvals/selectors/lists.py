"""Lists of requests: what waits for a person, what a person asked, what concerns a thing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import F, QuerySet

from approvals import ports
from approvals.models import Decision, Request
from approvals.selectors import ballots
from approvals.selectors.access import why_not_vote
from approvals.selectors.ballots import Ballot

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

JSON = Any
QUEUE_LIMIT = 500
PAGE = 50
SUBJECT_LIMIT = 40


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request in somebody's queue, with how far its quorum is."""

    request: Request
    have: int
    need: int
    shortfall: str


def queue(person: AbstractBaseUser, *, now: datetime | None = None) -> list[Waiting]:
    """Return what waits for this person's decision, worst first: risk, then time left.

    Without `now` the bar of 24 h after a factor reset is judged at submission.
    """
    pending = _pending().order_by("-risk_score", "expires_at", "number")
    if now is not None:
        pending = pending.filter(expires_at__gt=now)
    rows = list(pending[:QUEUE_LIMIT])
    directory = ballots.Snapshot.of(rows)
    found = []
    for request in rows:
        if not ballots.may_concern(request, person.pk, directory):
            continue
        ballot = ballots.glance(request, now=now or request.revised_at, directory=directory)
        if not why_not_vote(ballot, person.pk):
            found.append(_waiting(request, ballot))
    return found


def queue_count(person: AbstractBaseUser, *, now: datetime | None = None) -> int:
    """Return how many requests wait for this person."""
    return len(queue(person, now=now))


def oldest_pending_at() -> datetime | None:
    """Return when the oldest undecided request of all was made."""
    return _pending().order_by("created_at").values_list("created_at", flat=True).first()


def stuck(*, now: datetime) -> list[Waiting]:
    """Return undecided requests whose quorum cannot be reached, with the mend."""
    rows = list(_pending()[:QUEUE_LIMIT])
    directory = ballots.Snapshot.of(rows)
    found = []
    for request in rows:
        ballot = ballots.glance(request, now=now, directory=directory)
        if ballot.judgement.shortfall:
            found.append(_waiting(request, ballot))
    return found


def _waiting(request: Request, ballot: Ballot) -> Waiting:
    judgement = ballot.judgement
    return Waiting(request, len(judgement.seated), ballot.rules.quorum, judgement.shortfall)


def mine(person: AbstractBaseUser) -> QuerySet[Request]:
    """Return what this person asked: what needs them first, then newest first."""
    return (
        Request.objects.filter(requester_id=person.pk)
        .select_related("requester", "policy_version__policy")
        .order_by(F("ended_at").desc(nulls_first=True), "-created_at")
    )


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list by number; `newer` and `older` are query strings or empty."""

    open: list[Request]
    rows: list[Request]
    newer: str
    older: str
    note: str = ""


def mine_page(person: AbstractBaseUser, *, before: int | None = None) -> Page:
    """Return a person's open requests on the first page, and ended ones newest first."""
    rows = mine(person)
    ended = rows.filter(ended_at__isnull=False).order_by("-number")
    if before is not None:
        ended = ended.filter(number__lt=before)
    found = list(ended[: PAGE + 1])
    return Page(
        open=list(rows.filter(ended_at__isnull=True)) if before is None else [],
        rows=found[:PAGE],
        newer="" if before is None else "?",
        older=f"?before={found[PAGE - 1].number}" if len(found) > PAGE else "",
    )


def decided(person: AbstractBaseUser, *, limit: int = 10) -> list[Decision]:
    """Return the decisions that a person made last."""
    rows = Decision.objects.filter(person_id=person.pk).select_related("request")
    return list(rows.order_by("-decided_at")[:limit])


def mine_count(person: AbstractBaseUser) -> int:
    """Return how many of this person's requests came back with changes asked."""
    return mine(person).filter(state=Request.State.CHANGES_ASKED).count()


def for_subject(kind: str, subject_id: str | UUID, *, limit: int = SUBJECT_LIMIT) -> list[Request]:
    """Return the newest requests about one thing. The caller has passed its gate."""
    return list(_about(kind, subject_id).prefetch_related("decisions")[:limit])


def open_for_subject(kind: str, subject_id: str | UUID, *, act: str = "") -> list[Request]:
    """Return the requests about one thing that can still run, newest first; of one act or of all.

    These are few: an act on a thing refuses a second one of its kind.
    """
    found = _about(kind, subject_id).filter(state__in=Request.OPEN)
    return list(found.filter(kind=act) if act else found)


def done_for_subject(
    kind: str, subject_id: str | UUID, *, act: str, since: datetime
) -> list[Request]:
    """Return the requests of one act about one thing that were done after `since`."""
    found = _about(kind, subject_id).filter(kind=act, state=Request.State.DONE)
    return list(found.filter(ended_at__gt=since))


def plan_of(request_id: UUID) -> dict[str, Any]:
    """Return the plan of one request, for the action that runs it. Raises NotVisible."""
    found = Request.objects.filter(pk=request_id).values_list("plan", flat=True).first()
    if found is None:
        raise ports.NotVisible(f"request {request_id}")
    return dict(found)


def _about(kind: str, subject_id: str | UUID) -> QuerySet[Request]:
    rows = Request.objects.filter(subject_kind=kind, subject_id=str(subject_id))
    return rows.select_related("requester").order_by("-created_at")


def by_ids(request_ids: Collection[UUID]) -> dict[UUID, Request]:
    """Return requests by id, with their decisions. The caller passes each row's gate."""
    rows = Request.objects.filter(pk__in=request_ids).select_related("requester")
    return {row.pk: row for row in rows.prefetch_related("decisions")}


def open_with(kind: str, **payload: JSON) -> list[Request]:
    """Return open requests of one kind whose action holds these values, newest first.

    For things that are no request's subject; `name__contains` looks into a list. The
    caller passes each row's gate.
    """
    wanted = {f"payload__{name}": value for name, value in payload.items()}
    rows = Request.objects.filter(kind=kind, ended_at=None, **wanted)
    return list(rows.select_related("requester").order_by("-created_at"))


def _pending() -> QuerySet[Request]:
    pending = Request.objects.filter(state=Request.State.PENDING)
    return pending.select_related("requester", "policy_version__policy").prefetch_related(
        "decisions"
    )
