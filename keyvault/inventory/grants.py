"""Give and end grants on keys. A grant is never changed or deleted, only ended."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.contrib.auth.models import Group
from django.db.models import QuerySet

from approvals.ports import Actor, Subject
from keyvault.accounts.models import User
from keyvault.audit import ledger
from keyvault.inventory.models import Grant, Key, KeyPermission

if TYPE_CHECKING:
    from keyvault.agents.models import Agent

OWNER_PERMISSIONS = (
    KeyPermission.VIEW,
    KeyPermission.REVEAL,
    KeyPermission.REVOKE,
    KeyPermission.MANAGE,
)


def grant(
    *,
    key: Key,
    holder: User | Group | Agent,
    permission: str,
    reason: str,
    actor: Actor,
    now: datetime,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    request_id: UUID | None = None,
) -> Grant:
    """Give one permission on one key, from `starts_at` (now) until `ends_at` (open).

    Returns the open grant when the holder has it already; one that ran out is
    ended first, so that the new one has its own line of history.
    """
    whose = {_kind(holder): holder}
    held = Grant.objects.filter(key=key, permission=permission, ended_at=None, **whose).first()
    if held is not None and (held.ends_at is None or held.ends_at > now):
        return held
    if held is not None:
        end_grant(grant=held, actor=actor, now=now, request_id=request_id)
    made = Grant.objects.create(
        key=key,
        permission=permission,
        reason=reason,
        starts_at=starts_at or now,
        ends_at=ends_at,
        request_id=request_id,
        **whose,
    )
    _record("grant.given", made, actor=actor, now=now, request_id=request_id)
    return made


def end_grant(*, grant: Grant, actor: Actor, now: datetime, request_id: UUID | None = None) -> None:
    """End a grant now. Ending it again changes nothing."""
    if Grant.objects.filter(pk=grant.pk, ended_at=None).update(ended_at=now):
        grant.ended_at = now
        _record("grant.ended", grant, actor=actor, now=now, request_id=request_id)


def give_at_go_live(*, key: Key, request_id: UUID, actor: Actor, now: datetime) -> None:
    """Give what comes with owning a key, and let the owning team see it."""
    holders: list[tuple[User | Group, KeyPermission, str]] = [
        (key.owner, permission, "owner") for permission in OWNER_PERMISSIONS
    ]
    holders.append((key.team, KeyPermission.VIEW, "owning team"))
    if key.backup_owner is not None:
        holders.append((key.backup_owner, KeyPermission.VIEW, "backup owner"))
    for holder, permission, reason in holders:
        grant(
            key=key,
            holder=holder,
            permission=permission,
            reason=reason,
            actor=actor,
            now=now,
            request_id=request_id,
        )


def end_all_but_view(*, key: Key, request_id: UUID, actor: Actor, now: datetime) -> None:
    """End every right on a key except to read its history."""
    _end(_open(key).exclude(permission=KeyPermission.VIEW), actor, now=now, request_id=request_id)


def end_uses(*, key: Key, request_id: UUID, actor: Actor, now: datetime) -> None:
    """End every right to use a key that can no longer be fetched."""
    _end(_open(key).filter(permission=KeyPermission.USE), actor, now=now, request_id=request_id)


def end_all(*, key: Key, request_id: UUID, actor: Actor, now: datetime) -> None:
    """End every right on a key that was never created."""
    _end(_open(key), actor, now=now, request_id=request_id)


def _open(key: Key) -> QuerySet[Grant]:
    return Grant.objects.filter(key=key, ended_at=None).order_by("starts_at", "pk")


def _end(held: QuerySet[Grant], actor: Actor, *, now: datetime, request_id: UUID) -> None:
    for row in held:
        end_grant(grant=row, actor=actor, now=now, request_id=request_id)


def _kind(holder: User | Group | Agent | None) -> str:
    """Return the column of the grant that names its holder."""
    if isinstance(holder, User):
        return "user"
    return "group" if isinstance(holder, Group) else "agent"


def _record(
    event: str, row: Grant, *, actor: Actor, now: datetime, request_id: UUID | None
) -> None:
    holder = row.user or row.group or row.agent
    fields = {
        "permission": str(row.permission),
        "holder_kind": _kind(holder),
        "holder": str(holder.pk if holder else ""),
        "reason": row.reason,
        "starts_at": row.starts_at.isoformat(),
        "ends_at": row.ends_at.isoformat() if row.ends_at else None,
    }
    ledger.record(
        event,
        actor=actor,
        subject=Subject("key", str(row.key_id), row.key.name),
        now=now,
        fields=fields,
        request_id=request_id,
    )
