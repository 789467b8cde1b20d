"""The history of one request as a page tells it, from the rows that the ledger backs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from approvals import ports
from approvals.models import Comment, Decision, Job, Request, Revision
from approvals.selectors import access, ballots, diffs

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

Item = dict[str, Any]

VERDICTS = {"approve": "approved", "reject": "rejected", "changes": "asked for changes"}
CAUSES = {
    "submitted": "opened the request",
    "edited": "sent a new revision",
    "policy": "matched anew: the rules were changed",
}
ENDS = {
    "done": "finished it",
    "failed": "could not finish it",
    "expired": "let it lapse",
    "withdrawn": "withdrew it",
    "invalidated": "stopped it before anything was done",
}
# What an action raises when the thing that it is about is gone.
GONE = (LookupError, ValueError, ports.Unfinished)
# How a request ended that the machine took back which had made it.
BY_ASKER = "withdrawn_by_asker"
WORKER = ports.Actor("system", "worker", "Worker")


@dataclass(frozen=True, slots=True)
class Said:
    """What a person wrote about a request; `verdict` is empty for a remark that decides nothing."""

    id: UUID
    person: ports.Actor
    verdict: str
    revision: int
    text: str
    at: datetime


def said(request: Request) -> list[Said]:
    """Return the remarks on a request and the notes of its decisions, oldest first."""
    found = [remark(one) for one in request.comments.all()]
    found += [
        Said(one.pk, _person(one), one.verdict, one.revision, one.comment, one.decided_at)
        for one in request.decisions.all()
        if one.comment
    ]
    return sorted(found, key=lambda one: (one.at, one.id))


def remark(row: Comment) -> Said:
    """Return one remark."""
    return Said(row.pk, _person(row), "", row.revision, row.text, row.created_at)


def timeline(request: Request) -> list[Item]:
    """Return what happened, oldest first: actor, text, at, and what was said."""
    items = [*_revisions(request), *_decisions(request), *_comments(request), *_ends(request)]
    return sorted(items, key=lambda item: item["at"])


def _revisions(request: Request) -> Iterator[Item]:
    before: Revision | None = None
    for revision in request.revisions.all():
        item: Item = {
            "actor": ports.Actor(**revision.author),
            "text": f"{CAUSES[revision.cause]} · revision {revision.number}",
            "at": revision.created_at,
        }
        if before is not None:
            fields = [row.field for row in diffs.changes(before.plan, revision.plan)]
            what = ", ".join(fields[:4]) or "nothing that the page shows"
            item["note"] = (
                f"Changed: {what}. Earlier decisions were cleared; they bind to one revision."
            )
        yield item
        before = revision


def _decisions(request: Request) -> Iterator[Item]:
    for decision in request.decisions.all():
        solo = " alone, as the only administrator" if decision.solo else ""
        yield {
            "actor": _person(decision),
            "text": f"{VERDICTS[decision.verdict]}{solo} · on revision {decision.revision}",
            "at": decision.decided_at,
            "quote": decision.comment,
            "badge": ("ok", factor(decision), "shield"),
        }


def factor(decision: Decision) -> str:
    """Return the second factor of a decision in words."""
    return {"totp": "authenticator", "recovery": "recovery code"}.get(
        decision.method, decision.method
    )


def _comments(request: Request) -> Iterator[Item]:
    for comment in request.comments.all():
        yield {
            "actor": _person(comment),
            "text": f"wrote · on revision {comment.revision}",
            "at": comment.created_at,
            "quote": comment.text,
        }


def _person(row: Decision | Comment) -> ports.Actor:
    return ports.Actor("user", str(row.person_id), row.person_label)


def _ends(request: Request) -> Iterator[Item]:
    if request.started_at is not None:
        yield {"actor": WORKER, "text": "started to run it", "at": request.started_at}
    if request.ended_at is None or request.state not in ENDS:
        return
    actor = WORKER
    if request.state == Request.State.WITHDRAWN:
        actor = ports.Actor("user", str(request.requester_id), request.requester_label)
        if request.end_code == BY_ASKER and request.asked_by is not None:
            actor = request.asked_by
    told = (request.outcome or {}).get("sentence") or request.end_sentence
    yield {
        "actor": actor,
        "text": ENDS[request.state],
        "at": request.ended_at,
        "note": told,
    }


def revision_of(request: Request, plan_digest: str) -> Revision | None:
    """Return the revision that a page with this digest had shown."""
    return request.revisions.filter(plan_digest=plan_digest).first()


def decision(request: Request, decision_id: UUID) -> Decision:
    """Return one decision of a request that the caller may see. Raises NotVisible."""
    found = request.decisions.filter(pk=decision_id).first()
    if found is None:
        raise ports.NotVisible(f"decision {decision_id}")
    return found


def material_of(found: Decision) -> dict[str, Any]:
    """Return all that a decision's digest covers."""
    revision = Revision.objects.get(request_id=found.request_id, number=found.revision)
    material: dict[str, Any] = revision.material
    return material


def job_of(request: Request) -> Job | None:
    """Return the newest job that runs this request."""
    return Job.objects.filter(kind="request.execute", subject_id=request.pk).order_by("-id").first()


def similar(request: Request, person: AbstractBaseUser, *, limit: int = 5) -> list[Request]:
    """Return earlier requests about the same thing that this person may see, newest first."""
    rows = Request.objects.filter(
        subject_kind=request.subject_kind, subject_id=request.subject_id
    ).exclude(pk=request.pk)
    rows = rows.select_related("policy_version").order_by("-created_at")
    return [row for row in rows[:limit] if access.may_see(person, row)]


def drift(request: Request) -> tuple[ports.Change, ...]:
    """Return how the world has moved since this undecided request was worded.

    An approval would be refused at the start of execution, so the page says
    so before anybody spends a code on it.
    """
    if request.state not in Request.UNDECIDED:
        return ()
    try:
        live = ballots.action_of(request).describe().to_json()
    except GONE:
        return (ports.Change("Target", request.subject_label, "does not exist any more"),)
    return diffs.changes(request.plan, live)
