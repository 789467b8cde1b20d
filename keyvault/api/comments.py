"""What people say about a request: read by whoever may see it, written by people."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router, Status
from pydantic import BaseModel, Field

from approvals import services
from approvals.selectors import history
from keyvault.api import pages, schemas
from keyvault.api.principals import caller
from keyvault.api.requests import CREATED, request_of

if TYPE_CHECKING:
    from approvals.selectors.history import Said

router = Router(tags=["requests"])
ORDER = "comments"


class Comment(schemas.Out):
    """One remark, or the note of a decision: then `verdict` is approve, reject or changes."""

    id: UUID
    person: schemas.Person
    verdict: str
    revision: int
    text: str
    at: datetime


class CommentList(schemas.Out):
    """One page of comments, oldest first."""

    items: list[Comment]
    next_cursor: str | None


class Say(schemas.In):
    """A remark that decides nothing."""

    text: Annotated[str, Field(min_length=1, max_length=4000)]


class CommentsQuery(BaseModel):
    """How far a list of comments goes."""

    cursor: schemas.Cursor = ""
    limit: schemas.Limit = pages.LIMIT


@router.get(
    "/requests/{uuid:request_id}/comments", response=CommentList, operation_id="listComments"
)
def list_comments(
    request: HttpRequest, request_id: UUID, query: Query[CommentsQuery]
) -> CommentList:
    """List what people wrote about a request, decisions' notes among it, oldest first."""
    row = request_of(caller(request), request_id)
    mark = pages.mark(ORDER, query.cursor)
    found = [one for one in history.said(row) if mark is None or _mark(one) > str(mark)]
    shown = found[: query.limit]
    more = len(found) > len(shown)
    return CommentList(
        items=[_of_said(one) for one in shown],
        next_cursor=pages.cursor(ORDER, _mark(shown[-1])) if more else None,
    )


@router.post(
    "/requests/{uuid:request_id}/comments",
    response={CREATED: Comment},
    operation_id="createComment",
)
def create_comment(request: HttpRequest, request_id: UUID, body: Say) -> Status[Comment]:
    """Say something about a request without deciding about it.

    People only, and auditors only where they ask or decide.
    """
    made = services.comment(
        request_id=request_id,
        person=caller(request).person,
        text=body.text,
        now=timezone.now(),
    )
    return Status(CREATED, _of_said(history.remark(made)))


def _mark(said: Said) -> str:
    """Return the place of a comment in the list: its moment in UTC, then its id."""
    return f"{said.at.timestamp():020.6f} {said.id}"


def _of_said(said: Said) -> Comment:
    person = schemas.Person(id=UUID(said.person.id), name=said.person.label)
    return Comment(
        id=said.id,
        person=person,
        verdict=said.verdict,
        revision=said.revision,
        text=said.text,
        at=said.at,
    )
