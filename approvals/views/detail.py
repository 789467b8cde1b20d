"""One request on one screen: what is asked, what could go wrong, who decides, what happened."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from approvals import receipts, selectors
from approvals.forms import CommentForm, DecideForm
from approvals.gates import SIGNED_IN, gated
from approvals.selectors import ballots, history
from approvals.views.people import person

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

    from approvals.models import Request

SALT = "approvals.seen"


@gated(SIGNED_IN)
@require_GET
def detail(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Show a request to its asker, its approvers and whom its action lets see."""
    row = selectors.access_request(person(request), request_id)
    return page(request, row, now=timezone.now())


def page(
    request: HttpRequest,
    row: Request,
    *,
    now: datetime,
    form: DecideForm | None = None,
    comments: CommentForm | None = None,
    refusal: str = "",
    status: int = HTTPStatus.OK,
) -> HttpResponse:
    """Render a request's page; a form that was refused keeps what was typed."""
    reader = person(request)
    context = context_of(row, reader, now=now)
    context |= {
        "note": (form["comment"].value() or "") if form else "",
        "form": form or DecideForm(),
        "comments": comments or CommentForm(),
        "refusal": refusal,
    }
    return render(request, "approvals/detail.html", context, status=status)


def context_of(row: Request, reader: AbstractBaseUser, *, now: datetime) -> dict[str, Any]:
    """Return all that a page shows of a request."""
    ballot = ballots.read(row, now=now)
    action = ballots.action_of(row)
    stand = selectors.standing(row, reader, now=now, ballot=ballot)
    is_mine = row.requester_id == reader.pk
    context = {
        "nav": "mine" if is_mine else "inbox",
        "now": now,
        "reader_id": str(reader.pk),
        "row": row,
        "plan": row.plan,
        "rules": ballot.rules,
        "risk": _risk(row, action),
        "drift": history.drift(row),
        "stale": _stale(row),
        "stand": stand,
        "is_mine": is_mine,
        "is_waiting": stand.may,
        "may_comment": selectors.may_comment(reader, row),
        "deciders": selectors.who_decides(row, now=now, ballot=ballot),
        "timeline": history.timeline(row),
        "receipts": [(decision, history.factor(decision)) for decision in row.decisions.all()],
        "receipt_key": receipts.public_key(),
        "similar": history.similar(row, reader),
        "job": history.job_of(row),
        "target": _target(row),
        "place": _place(row, reader, now=now) if stand.may else None,
        "links": _links(row, action, is_mine=is_mine),
    }
    return context | {"seen": _seen(context, now=now)}


def _risk(row: Request, action: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a ports.Action
    """Return today's points while it is open, else those it was decided on."""
    points: list[dict[str, Any]] = row.risk
    if not row.is_open:
        return points
    try:
        return [asdict(point) for point in action.risk()]
    except history.GONE:
        return points


def _stale(row: Request) -> tuple[Any, ...]:
    """Return what had changed when an approved plan was stopped for drift."""
    return selectors.changes(row.plan, row.drift) if row.drift else ()


def _target(row: Request) -> list[tuple[str, str]]:
    """Return what identifies the target beyond its name, which may be a look-alike."""
    target = row.plan["target"]
    return [("Kind", target["kind"].replace("_", " ")), ("Id", target["id"])]


def _seen(context: dict[str, Any], *, now: datetime) -> str:
    """Return a signed record of what the page shows beside the plan, as evidence."""
    shown = {
        "risk": context["risk"],
        "shortfall": context["deciders"].shortfall,
        "drift": [change.field for change in context["drift"]],
        "shown_at": now.isoformat(timespec="seconds"),
    }
    return signing.dumps(shown, salt=SALT, compress=True)


def seen(token: str) -> dict[str, Any]:
    """Return what the page had shown, if the record is ours; an empty record otherwise."""
    try:
        found: dict[str, Any] = signing.loads(token, salt=SALT)
    except signing.BadSignature:
        return {}
    return found


def _place(row: Request, reader: AbstractBaseUser, *, now: datetime) -> dict[str, Any] | None:
    """Return where the request stands in the reader's queue, with its neighbours."""
    ids = [waiting.request.pk for waiting in selectors.queue(reader, now=now)]
    if row.pk not in ids or len(ids) == 1:
        return None
    at = ids.index(row.pk)
    return {
        "number": at + 1,
        "of": len(ids),
        "before": ids[at - 1] if at else None,
        "after": ids[at + 1] if at + 1 < len(ids) else None,
    }


def _links(row: Request, action: Any, *, is_mine: bool) -> dict[str, str]:  # noqa: ANN401
    """Return the host's pages for this request; each is optional (`ports.HasPages`)."""
    found = {"subject": _link(action, "subject_url", row)}
    if is_mine:
        name = "edit_url" if row.is_open else "again_url"
        found[name.removesuffix("_url")] = _link(action, name, row)
    return found


def _link(action: Any, name: str, row: Request) -> str:  # noqa: ANN401
    make = getattr(action, name, None)
    return str(make(row.pk)) if make is not None else ""
