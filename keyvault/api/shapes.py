"""Turn rows into the shapes of `schemas`; nothing is sent that is not named here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.urls import reverse

from keyvault.api import schemas

if TYPE_CHECKING:
    from approvals.models import Request
    from approvals.selectors import Deciders
    from keyvault.accounts.models import User
    from keyvault.agents.models import Agent
    from keyvault.audit.selectors import Line
    from keyvault.inventory.models import Key
    from keyvault.vault.models import Version

JSON = Any
_COPIED = (
    "id",
    "name",
    "title",
    "state",
    "provider",
    "purpose",
    "allowed_hosts",
    "volume_per_day",
    "external_input",
    "delivery_mode",
    "labels",
    "lifetime_days",
    "cadence_days",
    "calendar",
    "created_at",
    "live_at",
    "expires_at",
    "rotation_due_at",
    "revoked_at",
)


def key(row: Key, permissions: Iterable[str]) -> schemas.Key:
    """Return the facts of one key for a caller with these permissions."""
    return schemas.Key(
        **{name: getattr(row, name) for name in _COPIED},
        environment=row.environment.slug,
        connection=row.connection.slug,
        team=row.team.name,
        owner=_someone(row.owner),
        backup_owner=_person(row.backup_owner),
        permissions=sorted(permissions),
    )


def version(row: Version) -> schemas.Version:
    """Return the facts of one version."""
    return schemas.Version.model_validate(row)


def agent(row: Agent) -> schemas.Agent:
    """Return the facts of one agent."""
    copied = ("id", "name", "title", "purpose", "state", "reads_outside_text", "created_at")
    return schemas.Agent(
        **{name: getattr(row, name) for name in copied},
        last_seen_at=row.last_seen_at,
        owner=_someone(row.owner),
        backup_owner=_person(row.backup_owner),
        team=row.team.name,
    )


_OF_REQUEST = (
    "id",
    "label",
    "kind",
    "state",
    "revision",
    "reason",
    "ticket",
    "plan_digest",
    "plan",
    "risk_score",
    "created_at",
    "revised_at",
    "expires_at",
    "decided_at",
    "ended_at",
    "end_code",
    "end_sentence",
    "outcome",
)


def request(row: Request, deciders: Deciders | None) -> schemas.Request:
    """Return one request, and how far its decision is where the caller asks for it alone."""
    asked_by = row.asked_by
    return schemas.Request(
        **{name: getattr(row, name) for name in _OF_REQUEST},
        title=row.plan["title"],
        sentence=row.plan["sentence"],
        requester=schemas.Person(id=row.requester_id, name=row.requester_label),
        asked_by=_thing(asked_by) if asked_by else None,
        subject=schemas.Thing(kind=row.subject_kind, id=row.subject_id, label=row.subject_label),
        progress=schemas.Progress(have=deciders.have, need=deciders.need) if deciders else None,
        page=reverse("request", args=[row.pk]),
    )


def event(line: Line) -> schemas.Event:
    """Return one line of the ledger."""
    copied = ("id", "seq", "at", "event", "sentence", "outcome", "on_behalf_of", "request_id", "ip")
    return schemas.Event(
        **{name: getattr(line, name) for name in copied},
        actor=_thing(line.actor),
        subject=schemas.Thing(kind=line.subject_kind, id=line.subject_id, label=line.subject_label),
        fields=dict(line.fields),
    )


def _thing(snapshot: Any) -> schemas.Thing:  # noqa: ANN401 - an Actor or a Subject.
    return schemas.Thing(kind=snapshot.kind, id=snapshot.id, label=snapshot.label)


def _someone(user: User) -> schemas.Person:
    return schemas.Person(id=user.pk, name=str(user))


def _person(user: User | None) -> schemas.Person | None:
    return _someone(user) if user is not None else None
