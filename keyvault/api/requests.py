"""Requests: ask, follow, revise, withdraw. Nobody decides here: there is no such address (R20)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Query, Router
from pydantic import BaseModel, Field

from approvals import selectors, services
from keyvault.api import asking, asks, pages, principals, schemas, shapes, waiting
from keyvault.api.principals import Principal, caller

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from approvals.models import Request

router = Router(tags=["requests"])
MOST_WAIT_S = 30
CREATED = 201
_STATES = "draft|pending|changes_asked|approved|executing|done|rejected|expired|withdrawn|invalidated|failed"


class RequestsQuery(BaseModel):
    """How a list of requests is narrowed."""

    state: Annotated[str, Field(pattern=f"^({_STATES})?$")] = ""
    kind: Annotated[str, Field(max_length=60)] = ""
    cursor: schemas.Cursor = ""
    limit: schemas.Limit = pages.LIMIT


class WaitQuery(BaseModel):
    """How long to wait for news, in seconds."""

    wait: Annotated[int, Field(ge=0, le=MOST_WAIT_S)] = 0


@router.post("/requests", response={CREATED: schemas.Request}, operation_id="createRequest")
def create_request(request: HttpRequest, body: asks.Ask) -> HttpResponse:
    """Ask for an act. An agent asks on behalf of its owner, who can then not approve it."""
    principal, now = caller(request), timezone.now()
    made = asking.ask(principal, body, now=now)
    return answer(principal, made.pk, status=CREATED)


@router.get("/requests", response=schemas.RequestList, operation_id="listRequests")
def list_requests(request: HttpRequest, query: Query[RequestsQuery]) -> schemas.RequestList:
    """List what the caller has asked, newest first."""
    found = _asked(caller(request))
    mark = pages.mark("requests", query.cursor)
    if mark is not None:
        found = found.filter(number__lt=int(mark))
    exact = {"state": query.state, "kind": query.kind}
    found = found.filter(**{name: value for name, value in exact.items() if value})
    rows = list(found.order_by("-number")[: query.limit + 1])
    shown = rows[: query.limit]
    more = len(rows) > len(shown)
    return schemas.RequestList(
        items=[shapes.request(row, None) for row in shown],
        next_cursor=pages.cursor("requests", shown[-1].number) if more else None,
    )


@router.get("/requests/{uuid:request_id}", response=schemas.Request, operation_id="getRequest")
def get_request(request: HttpRequest, request_id: UUID, query: Query[WaitQuery]) -> HttpResponse:
    """Return one request. With `wait`, answer when it has changed or the time is over.

    With `If-None-Match` it has changed once its ETag is another one; without,
    once it differs from what it was when the call came. Too many waiting calls
    are answered at once, with `Retry-After`.
    """
    first = _tag(_read(request, request_id))
    known = request.headers.get("If-None-Match")

    def is_news(row: Request) -> bool:
        return not pages.has(request, _tag(row)) if known else _tag(row) != first

    found = waiting.until(
        lambda: _read(request, request_id),
        is_news,
        whose=caller(request).label,
        wait_s=query.wait,
    )
    response = _answer_row(request, caller(request), found)
    if query.wait and not is_news(found):
        response["Retry-After"] = str(waiting.AGAIN_S)
    return response


@router.patch("/requests/{uuid:request_id}", response=schemas.Request, operation_id="reviseRequest")
def revise_request(request: HttpRequest, request_id: UUID, body: asks.Revise) -> HttpResponse:
    """Change an undecided request of one's own; every decision on it is cleared. People only."""
    principal = caller(request)
    asking.revise(principal, request_id, body, now=timezone.now())
    return answer(principal, request_id)


@router.post(
    "/requests/{uuid:request_id}/withdraw",
    response=schemas.Request,
    operation_id="withdrawRequest",
)
def withdraw_request(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Take a request back before it runs. Repeating it changes nothing."""
    principal, now = caller(request), timezone.now()
    if principal.agent is not None:
        services.withdraw_asked(request_id=request_id, asker=principal.actor, now=now)
    else:
        services.withdraw(request_id=request_id, person=principal.person, now=now)
    return answer(principal, request_id)


def _asked(principal: Principal) -> QuerySet[Request]:
    if principal.agent is not None:
        return selectors.asked_by(principal.actor)
    return selectors.mine(principal.person)


def request_of(principal: Principal, request_id: UUID) -> Request:
    """Return a request that the caller may see. Raises NotVisible.

    An agent sees those that it made, a person those that the console shows.
    """
    if principal.agent is not None:
        return selectors.access_asked(principal.actor, request_id)
    return selectors.access_request(principal.person, request_id)


def _read(request: HttpRequest, request_id: UUID) -> Request:
    """Return a request after looking again whether the token still holds."""
    return request_of(principals.of(request, now=timezone.now()), request_id)


def _tag(row: Request) -> str:
    """Return what differs once anything about a request has changed that its page shows."""
    votes = row.decisions.count()
    return f'"{row.revision}-{row.state}-{votes}-{row.plan_digest[:16]}"'


def answer(principal: Principal, request_id: UUID, *, status: int = 200) -> HttpResponse:
    """Return a request with how far its decision is, and with its ETag."""
    row = request_of(principal, request_id)
    shown = shapes.request(row, selectors.who_decides(row, now=timezone.now()))
    response = HttpResponse(shown.model_dump_json(), status=status, content_type="application/json")
    response["ETag"] = _tag(row)
    if status == CREATED:
        response["Location"] = f"/api/v1/requests/{row.pk}"
    return response


def _answer_row(request: HttpRequest, principal: Principal, row: Request) -> HttpResponse:
    if pages.has(request, _tag(row)):
        return HttpResponse(status=304, headers={"ETag": _tag(row)})
    return answer(principal, row.pk)
