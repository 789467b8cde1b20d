"""Move a request from state to state: one guarded UPDATE under the lock of its row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from approvals import ports
from approvals.models import Request
from approvals.selectors import ballots

JSON = Any

EXECUTE = "request.execute"
TELL = "notify.request"
TEXT_LIMIT = 4_000

POLICY = ports.Actor("system", "policy", "Policy")
CLOCK = ports.Actor("system", "clock", "Clock")
WORKER = ports.Actor("system", "worker", "Worker")


class Closed(Exception):
    """The request has reached a state in which this act is over; carries the request."""

    def __init__(self, request: Request) -> None:
        word = request.get_state_display().lower()
        super().__init__(f"{request.label} is {word}: nothing was changed.")
        self.request, self.state = request, request.state


class BadText(ValueError):
    """A reason, comment or ticket is missing, too long or of the wrong form; says the mend."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field, self.sentence = field, sentence


def lock(request_id: UUID) -> Request:
    """Return a request with its row locked until commit. Raises NotVisible.

    The lock is what makes approve, reject, withdraw and expire take turns:
    each of them judges rows that no other can change meanwhile.
    """
    assert_in_transaction()
    found = Request.objects.select_for_update(of=("self",)).filter(pk=request_id)
    request = found.select_related("policy_version__policy", "requester").first()
    if request is None:
        raise ports.NotVisible(f"request {request_id}")
    return request


def move(request: Request, to: Request.State, **changes: JSON) -> None:
    """Change the state, guarded by the state and revision that the caller has judged.

    Raises Closed when another transaction was first; the lock makes that a
    fault of the caller, and the guard makes it harmless.
    """
    changed = Request.objects.filter(
        pk=request.pk, state=request.state, revision=request.revision
    ).update(state=to, **changes)
    if not changed:
        request.refresh_from_db()
        raise Closed(request)
    for name, value in {"state": to, **changes}.items():
        setattr(request, name, value)


def end(
    request: Request, to: Request.State, *, now: datetime, code: str = "", sentence: str = ""
) -> None:
    """Close a request undone and let its action give back what it had reserved."""
    move(request, to, ended_at=now, end_code=code[:60], end_sentence=sentence)
    ballots.action_of(request).closed(request_id=request.pk, state=to.value, now=now)


def record(
    event: str,
    request: Request,
    *,
    actor: ports.Actor,
    now: datetime,
    fields: Mapping[str, JSON] | None = None,
    outcome: str = "ok",
) -> None:
    """Write the one ledger event of a transition, in the same transaction."""
    ports.recorder().record(
        event,
        actor=actor,
        subject=subject(request),
        now=now,
        fields=fields,
        outcome=outcome,
        request_id=request.pk,
    )


def subject(request: Request) -> ports.Subject:
    """Return the snapshot of a request for the ledger."""
    return ports.Subject("request", str(request.pk), request.label)


def check_text(field: str, text: str, *, is_needed: bool, name: str) -> str:
    """Return the text stripped. Raises BadText when it is missing or above 4,000 characters."""
    stripped = text.strip()
    if is_needed and not stripped:
        raise BadText(field, f"{name} is needed here.")
    if len(stripped) > TEXT_LIMIT:
        raise BadText(field, f"{name} may have at most {TEXT_LIMIT:,} characters.")
    if "\x00" in stripped:
        raise BadText(field, f"{name} holds a character that cannot be stored.")
    return stripped


def assert_in_transaction() -> None:
    """Raise AssertionError outside a transaction: the writes here belong to their caller's."""
    if not connection.in_atomic_block:
        raise AssertionError("this is written inside the transaction of what it belongs to")
