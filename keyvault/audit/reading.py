"""What auditors do, each act recorded in the ledger it reads: search, open, export."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from approvals.ports import Actor, Subject
from keyvault.audit import filters, ledger, selectors
from keyvault.audit.query import Query

_LOG = Subject("ledger", "ledger", "the audit log")


def parse(raw: str, *, now: datetime) -> Query:
    """Parse a query of the audit log without running it."""
    return filters.read(raw, now=now)


def search(
    raw: str,
    *,
    actor: Actor,
    now: datetime,
    after: str = "",
    before: str = "",
    limit: int = selectors.PAGE,
) -> tuple[Query, selectors.Page | None]:
    """Parse a query, record that it was asked, and return one page of what matches.

    A query with problems finds nothing and is recorded all the same. Raises
    selectors.BadCursor, ledger.LedgerUnavailable.
    """
    query = filters.read(raw, now=now)
    place = "older" if after else "newer" if before else "first"
    page = (
        None if query.problems else selectors.search(query, after=after, before=before, limit=limit)
    )
    with transaction.atomic(durable=True):
        ledger.record(
            "audit.searched",
            actor=actor,
            subject=_LOG,
            now=now,
            fields={"query": raw, "page": place},
            outcome="refused" if query.problems else "ok",
        )
    return query, page


def open_event(seq: int, *, actor: Actor, now: datetime) -> selectors.Opened:
    """Record that one event was read, and return it with its proof. Raises LookupError."""
    opened = selectors.event(seq)
    with transaction.atomic(durable=True):
        ledger.record(
            "audit.opened",
            actor=actor,
            subject=Subject("event", str(opened.line.id), f"event {seq}"),
            now=now,
            fields={"seq": seq},
        )
    return opened
