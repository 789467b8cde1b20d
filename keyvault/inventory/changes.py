"""Change what holds for a live key: its title, its delivery, its declared use and its labels.

Inner writers: the outermost call owns the transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from approvals.ports import Actor
from keyvault.audit import ledger
from keyvault.inventory import grants, services
from keyvault.inventory.models import DeliveryMode, Key, KeyState

JSON = Any
USE = frozenset({"allowed_hosts", "delivery_mode", "labels", "volume_per_day"})


def change_use(
    *, key_id: UUID, use: Mapping[str, JSON], request_id: UUID, actor: Actor, now: datetime
) -> Key:
    """Make a live key say what `use` says; only the fields of `USE` count. Idempotent.

    A key that agents no longer fetch keeps no right to use it. Raises
    services.WrongState.
    """
    key = services.lock(key_id=key_id)
    if key.state != KeyState.LIVE:
        raise services.WrongState(key)
    changed = sorted(name for name in USE & set(use) if getattr(key, name) != use[name])
    if not changed:
        return key
    for name in changed:
        setattr(key, name, use[name])
    key.save(update_fields=changed)
    ledger.record(
        "key.changed",
        actor=actor,
        subject=services.subject(key),
        now=now,
        fields={"fields": changed},
        request_id=request_id,
    )
    if key.delivery_mode != DeliveryMode.PULL:
        grants.end_uses(key=key, request_id=request_id, actor=actor, now=now)
    return key


def rename(*, key_id: UUID, title: str, actor: Actor, now: datetime) -> Key:
    """Give a key another title; its name never changes. Raises NotVisible."""
    key = services.lock(key_id=key_id)
    if key.title != title:
        key.title = title
        key.save(update_fields=["title"])
        subject, fields = services.subject(key), {"title": title}
        ledger.record("key.renamed", actor=actor, subject=subject, now=now, fields=fields)
    return key


def rotated(*, key_id: UUID, request_id: UUID, actor: Actor, now: datetime) -> Key:
    """Set the next rotation of a live key by its cadence, because one has just ended."""
    key = services.lock(key_id=key_id)
    if key.state != KeyState.LIVE:
        return key
    key.rotation_due_at, key.rotation_cause = services.next_value_at(key, now=now), "cadence"
    key.save(update_fields=["rotation_due_at", "rotation_cause"])
    fields = {"cause": "cadence", "due_at": key.rotation_due_at.isoformat()}
    services.record(
        "key.rotation_due", key, actor=actor, now=now, request_id=request_id, fields=fields
    )
    return key


def want_rotation(
    *,
    key_id: UUID,
    cause: str,
    due_at: datetime,
    request_id: UUID,
    actor: Actor,
    now: datetime,
    in_place_of: datetime | None = None,
) -> Key:
    """Bring a live key's next rotation forward to `due_at`, with its cause.

    Never back, but from `in_place_of`: the day that has passed without a new version.
    """
    key = services.lock(key_id=key_id)
    stands = None if key.rotation_due_at == in_place_of else key.rotation_due_at
    if key.state != KeyState.LIVE or (stands is not None and stands <= due_at):
        return key
    key.rotation_due_at, key.rotation_cause = due_at, cause
    key.save(update_fields=["rotation_due_at", "rotation_cause"])
    fields = {"cause": cause, "due_at": due_at.isoformat()}
    services.record(
        "key.rotation_due", key, actor=actor, now=now, request_id=request_id, fields=fields
    )
    return key
