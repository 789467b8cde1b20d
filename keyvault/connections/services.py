"""Write Connections, inside the transaction of an approved act, and their sealed credentials."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from approvals.ports import Actor
from keyvault.accounts import selectors as accounts
from keyvault.audit import ledger
from keyvault.connections import context, kinds, renewals
from keyvault.connections.drafts import Draft
from keyvault.connections.models import Connection
from keyvault.crypto.secret import Secret
from keyvault.inventory import selectors as inventory
from keyvault.vault import sealing
from keyvault.vault.sealing import Place

_CONFIG = (
    "title",
    "config",
    "allowed_hosts",
    "environment_id",
    "team_id",
    "admin_label",
    "renew_days",
)


class SlugTaken(Exception):
    """Another Connection has this name."""

    def __init__(self, slug: str) -> None:
        super().__init__(f"There is a Connection named {slug} already. Choose another name.")


class Changed(Exception):
    """The Connection has changed since the plan was made."""

    def __init__(self, slug: str) -> None:
        super().__init__(f"{slug} has changed since this was asked. Ask again.")


def propose(*, proposal_id: UUID, credential: Mapping[str, str], now: datetime) -> str:
    """Seal a credential that waits for approval; return the fingerprint that approvers see.

    Runs in the transaction that submits the request. Raises keyring.NoKey.
    """
    material = {name: Secret.of(text) for name, text in credential.items()}
    sealing.put(_proposal(proposal_id), material, now=now)
    return sealing.fingerprint(material)


def drop_proposal(*, proposal_id: UUID) -> None:
    """Delete a credential whose request ended undone, in the caller's transaction."""
    sealing.remove(_proposal(proposal_id))


def create(
    *,
    connection_id: UUID,
    draft: Draft,
    fingerprint: str,
    proposal_id: UUID,
    request_id: UUID | None,
    actor: Actor,
    now: datetime,
) -> Connection:
    """Make a Connection and move its proposed credential into place. Idempotent.

    Raises SlugTaken, ports.NotVisible, keyring.NoKey.
    """
    made = Connection.objects.filter(pk=connection_id).first()
    if made is not None:
        return made
    row = Connection(
        pk=connection_id,
        slug=draft.slug,
        provider=draft.provider,
        created_at=now,
        inventory_due_at=now,
    )
    _write(row, draft, fingerprint=fingerprint, request_id=request_id, now=now)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        if "slug" not in str(error):
            raise
        raise SlugTaken(draft.slug) from error
    _move(row, proposal_id, now)
    _record("connection.created", row, fields=sorted(draft.to_json()), actor=actor, now=now)
    return row


def change(
    *,
    connection_id: UUID,
    draft: Draft,
    fingerprint: str,
    proposal_id: UUID,
    base_revision: int,
    request_id: UUID,
    actor: Actor,
    now: datetime,
) -> Connection:
    """Change a Connection as it was approved; `slug` and `provider` never change. Idempotent.

    An empty `fingerprint` keeps the credential. Raises Changed, renewals.Busy,
    ports.NotVisible, keyring.NoKey.
    """
    row = Connection.objects.select_for_update().filter(pk=connection_id).first()
    if row is None:
        raise Changed(draft.slug)
    if row.request_id == request_id:
        return row
    if row.revision != base_revision or row.provider != draft.provider:
        raise Changed(row.slug)
    if fingerprint:
        renewals.overtake(row, actor=actor, now=now)
    before = {name: getattr(row, name) for name in _CONFIG}
    row.revision += 1
    _write(row, draft, fingerprint=fingerprint, request_id=request_id, now=now)
    row.inventory_due_at = now
    row.save()
    _move(row, proposal_id, now)
    changed = sorted(
        name.removesuffix("_id") for name in _CONFIG if getattr(row, name) != before[name]
    )
    _record("connection.changed", row, fields=changed, actor=actor, now=now)
    return row


def _write(
    row: Connection, draft: Draft, *, fingerprint: str, request_id: UUID | None, now: datetime
) -> None:
    environment = inventory.environment(draft.environment) if draft.environment else None
    team = accounts.team_by_slug(draft.team) if draft.team else None
    row.title, row.config = draft.title, dict(draft.config)
    row.allowed_hosts, row.admin_label = list(draft.allowed_hosts), draft.admin_label
    row.renew_days = draft.renew_days or None
    row.environment = environment
    row.team = team.group if team else None
    row.request_id, row.changed_at = request_id, now
    if fingerprint:
        row.credential_number += 1
        row.credential_fingerprint = fingerprint
        row.credential_at = now


def _move(row: Connection, proposal_id: UUID, now: datetime) -> None:
    """Seal the proposed credential for this Connection, and forget the one before it."""
    target = context.credential_place(row)
    if sealing.move(_proposal(proposal_id), target, now=now) and target.number > 1:
        sealing.remove(Place(target.kind, target.id, target.number - 1))


def _proposal(proposal_id: UUID) -> Place:
    return Place("connection_change", proposal_id, 0)


def _record(event: str, row: Connection, *, fields: list[str], actor: Actor, now: datetime) -> None:
    ledger.record(
        event,
        actor=actor,
        subject=context.subject_of(row),
        now=now,
        fields={
            "revision": row.revision,
            "provider": kinds.registered(row.provider).label,
            "fields": fields,
            "credential": row.credential_fingerprint,
        },
        request_id=row.request_id,
    )
