"""Answer the one poll of each page: the versions of the topics that it shows.

A version is a short text that changes when the page should ask again. Every
topic checks what this person may see, on every poll; one that is unknown,
hidden or gone is left out of the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from approvals import queue as jobs
from approvals import selectors as approvals
from approvals.ports import NotVisible
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as accounts
from keyvault.agents.access import access_agent
from keyvault.audit import selectors as ledger
from keyvault.connections import selectors as connections
from keyvault.connections import trials
from keyvault.dependents import probes
from keyvault.invalidation import selectors as invalidation
from keyvault.inventory.access import access_key
from keyvault.rotation import hurrying, progress
from keyvault.rotation import selectors as rotations
from keyvault.web import lookout, trust
from keyvault.web.system import OPERATORS

if TYPE_CHECKING:
    from keyvault.accounts.models import User

MAX_TOPICS = 8
MAX_ROWS = 50
_GATEWAYS_S = 10


@dataclass(frozen=True, slots=True)
class Ask:
    """One topic of one poll: who asks, the name behind the colon, and when."""

    person: User
    name: str
    now: datetime


def _queue(ask: Ask) -> object:
    rows = approvals.queue(ask.person, now=ask.now)
    return [(row.request.pk, row.request.revision, row.have) for row in rows]


def _mine(ask: Ask) -> object:
    return [(row.pk, row.state, row.revision) for row in approvals.mine(ask.person)[:MAX_ROWS]]


def _request(ask: Ask) -> object:
    found = approvals.access_request(ask.person, UUID(ask.name))
    return (found.state, found.revision, _newest(ledger.for_request(found.pk, limit=1)))


def _key(ask: Ask) -> object:
    found = access_key(ask.person, ask.name, "view")
    return (found.state, _newest(ledger.for_subject("key", found.pk, limit=1)))


def _agent(ask: Ask) -> object:
    found = access_agent(ask.person, ask.name, "view")
    return (found.state, _newest(ledger.for_subject("agent", found.pk, limit=1)))


def _newest(lines: Sequence[ledger.Line]) -> object:
    """Return the id of the newest event: whatever happens to a thing leaves one."""
    return lines[0].id if lines else None


def _trust(ask: Ask) -> object:
    return trust.lines(ask.now)


def _jobs(_: Ask) -> object:
    return ([job.id for job in jobs.held()], jobs.oldest_due_at())


def _gateways(ask: Ask) -> object:
    if not accounts.has_role(ask.person, *OPERATORS):
        raise NotVisible("gateways")
    # They confirm five times a second, which nobody can read.
    return [
        (row.name, row.state, row.behind > 0, row.seen_at.timestamp() // _GATEWAYS_S)
        for row in invalidation.gateways()
    ]


def _rotation(ask: Ask) -> object:
    found = rotations.rotation(ask.person, UUID(ask.name))
    rows = rotations.deliveries(found.pk)
    parts = [(one.pk, one.state) for one in rows]
    asked = probes.of_dependents([one.dependent_id for one in rows]).values()
    heard = sorted((str(one.pk), one.answer, one.number) for one in asked)
    by_hand = (
        connections.awaits_intake(found.key_id),
        connections.awaits_confirmation(found.key_id),
    )
    moved = (found.state, found.wave, found.since, found.wants_back, found.terms)
    return (*moved, parts, heard, by_hand)


def _choices(ask: Ask) -> object:
    """Return what a person can choose now; a form is swapped only when this changes."""
    found = rotations.rotation(ask.person, UUID(ask.name))
    may = (rotations.may_roll_back(found), hurrying.may_hurry(found))
    return (found.state, found.wants_back, may, sorted(rotations.choices(found)))


def _batch(ask: Ask) -> object:
    found = progress.batch(ask.person, UUID(ask.name))
    held = progress.is_job_held(found.pk)
    limits = [(one.connection.pk, one.open, one.held) for one in progress.limits(found.pk)]
    return (progress.figures(found.pk), found.stopped_at, limits, held)


def _batch_choices(ask: Ask) -> object:
    """Return whether a batch can be stopped; its form is swapped only when this changes."""
    found = progress.batch(ask.person, UUID(ask.name))
    return progress.figures(found.pk).waiting > 0


def _trials(ask: Ask) -> object:
    if not accounts.has_role(ask.person, *lookout.WATCHERS):
        raise NotVisible("trials")
    rows = trials.history(connections.get(ask.name).pk)
    return [(row.pk, row.state, row.attempt, len(row.steps)) for row in rows]


TOPICS: dict[str, Callable[[Ask], object]] = {
    "queue": _queue,
    "mine": _mine,
    "request": _request,
    "key": _key,
    "agent": _agent,
    "rotation": _rotation,
    "rotation-choices": _choices,
    "batch": _batch,
    "batch-choices": _batch_choices,
    "trials": _trials,
    "trust": _trust,
    "jobs": _jobs,
    "gateways": _gateways,
}


def version(person: User, topic: str, *, now: datetime) -> str:
    """Return the version of `kind` or `kind:name`. Raises NotVisible."""
    kind, _, name = topic.partition(":")
    if kind not in TOPICS:
        raise NotVisible(topic)
    try:
        state = TOPICS[kind](Ask(person, name, now))
    except ValueError:
        raise NotVisible(topic) from None
    return hashlib.blake2b(repr(state).encode(), digest_size=8).hexdigest()


@gates.signed_in
@require_GET
def live(request: HttpRequest) -> JsonResponse:
    """Return `{topic: version}` for what is asked for and visible."""
    person, now = sessions.person(request), timezone.now()
    found = {}
    for topic in request.GET.get("t", "").split(",")[:MAX_TOPICS]:
        try:
            found[topic] = version(person, topic, now=now)
        except NotVisible:
            continue
    return JsonResponse(found)
