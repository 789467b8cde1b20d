"""Events of the ledger for auditors; that somebody searched is an event itself (R53)."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router
from pydantic import BaseModel, Field

from keyvault.accounts import gates, selectors
from keyvault.api import pages, schemas, shapes
from keyvault.api.principals import caller
from keyvault.api.problems import Fault, Problem
from keyvault.audit import reading
from keyvault.audit.query import MAX_CHARS

router = Router(tags=["events"])
READERS = ("auditors",)


class EventsQuery(BaseModel):
    """A query in the language of the audit page, docs/api.md lists its names."""

    q: Annotated[str, Field(max_length=MAX_CHARS)] = ""
    cursor: schemas.Cursor = ""
    limit: schemas.Limit = pages.LIMIT


@router.get("/events", response=schemas.EventList, operation_id="listEvents")
def list_events(request: HttpRequest, query: Query[EventsQuery]) -> schemas.EventList:
    """Search the ledger, newest first. Without `time:` it looks back seven days."""
    principal = caller(request)
    if not selectors.has_role(principal.person, *READERS):
        raise gates.MissingRight(READERS)
    parsed, page = reading.search(
        query.q,
        actor=principal.actor,
        now=timezone.now(),
        after=query.cursor,
        limit=query.limit,
    )
    if page is None:
        faults = [Fault(one.sentence, parameter="q") for one in parsed.problems]
        raise Problem("bad-query", "The query was not run.", errors=faults)
    return schemas.EventList(
        items=[shapes.event(line) for line in page.rows], next_cursor=page.older or None
    )
