"""Change keys: register, redeclare, put live, revoke, release. Each writes its ledger line.

Inner writers: the outermost call (an action's ask or execute) owns the
transaction, so that a key, its request and the ledger agree at every commit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from approvals.ports import Actor, NotVisible, Subject
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.audit import ledger
from keyvault.inventory import calendars, grants, naming
from keyvault.inventory.declaration import Declaration
from keyvault.inventory.models import Environment, Key, KeyPermission, KeyState

JSON = Any
_RESERVED = ("key_name_reserved_once", "keyvault_key_pkey")


class NameTaken(Exception):
    """Another key has this name, or had it; a name is never used for two keys."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The name {name} is taken. Choose another one.")
        self.name = name


class WrongState(Exception):
    """The key is not in a state from which this can be done; says which state that is."""

    def __init__(self, key: Key) -> None:
        super().__init__(f"{key.name} is {key.get_state_display().lower()}.")
        self.state = key.state


def subject(key: Key) -> Subject:
    """Return the snapshot of a key that the ledger keeps."""
    return Subject("key", str(key.pk), key.name)


def lock(*, key_id: UUID) -> Key:
    """Return the key under a row lock: two ends of one key must not interleave.

    Raises NotVisible.
    """
    _assert_in_transaction()
    try:
        return Key.objects.select_for_update().get(pk=key_id)
    except Key.DoesNotExist:
        raise NotVisible(f"key {key_id}") from None


def register(
    *,
    declared: Declaration,
    provider: str,
    connection_id: UUID,
    owner: User,
    now: datetime,
    key_id: UUID,
    actor: Actor | None = None,
) -> Key:
    """Reserve a name and keep what was declared, until the request is decided.

    The owner may see the key from here on. `actor`: who asks in their place. Raises NameTaken, naming.BadName,
    NotVisible on an unknown environment or team.
    """
    _assert_in_transaction()
    key = Key(pk=key_id, owner=owner, created_at=now, state=KeyState.REQUESTED)
    _declare(key, declared, provider=provider, connection_id=connection_id)
    _save_name(key, is_new=True)
    asker = actor or people.actor(owner)
    record("key.requested", key, actor=asker, now=now, fields=_facts(key))
    grants.grant(
        key=key,
        holder=owner,
        permission=KeyPermission.VIEW,
        reason="owner",
        actor=asker,
        now=now,
    )
    return key


def bind_request(*, key: Key, request_id: UUID) -> None:
    """Note which request asks for a key that was just registered."""
    _assert_in_transaction()
    Key.objects.filter(pk=key.pk, request_id=None).update(request_id=request_id)
    key.request_id = request_id


def bind_keys(*, key_ids: Collection[UUID], request_id: UUID) -> None:
    """Note which request asks for several keys that were just registered."""
    _assert_in_transaction()
    Key.objects.filter(pk__in=key_ids, request_id=None).update(request_id=request_id)


def redeclare(
    *,
    key_id: UUID,
    declared: Declaration,
    provider: str,
    connection_id: UUID,
    actor: Actor,
    now: datetime,
) -> Key:
    """Make a key that is still asked for say exactly what `declared` says.

    Called when the request is revised, and again before it runs, so that what
    is created is what was approved and not what a row says by then. Raises
    NameTaken, WrongState.
    """
    _assert_in_transaction()
    key = lock(key_id=key_id)
    if key.state != KeyState.REQUESTED or key.released_at is not None:
        raise WrongState(key)
    before = _comparable(key)
    _declare(key, declared, provider=provider, connection_id=connection_id)
    if _comparable(key) != before:
        _save_name(key, is_new=False)
        record("key.redeclared", key, actor=actor, now=now, fields=_facts(key))
    return key


def go_live(
    *, key_id: UUID, request_id: UUID, actor: Actor, now: datetime, rotates: bool = True
) -> Key:
    """Put a requested key live and give its owner and team their grants. Idempotent.

    rotates: whether it has a value that is replaced by its cadence. Raises WrongState when it is neither requested by this request nor live.
    """
    _assert_in_transaction()
    key = lock(key_id=key_id)
    if key.state == KeyState.LIVE and key.request_id == request_id:
        return key
    if key.state != KeyState.REQUESTED or key.released_at or key.request_id != request_id:
        raise WrongState(key)
    key.state, key.live_at = KeyState.LIVE, now
    key.expires_at = now + timedelta(days=key.lifetime_days)
    if rotates:
        key.rotation_due_at = next_value_at(key, now=now)
        key.rotation_cause = "cadence"
    key.save()
    expires = key.expires_at.isoformat()
    record(
        "key.live", key, actor=actor, now=now, request_id=request_id, fields={"expires_at": expires}
    )
    grants.give_at_go_live(key=key, request_id=request_id, actor=actor, now=now)
    return key


def next_value_at(key: Key, *, now: datetime) -> datetime:
    """Return when a value of a key that begins now is to be replaced by its cadence."""
    return calendars.next_due(now=now, cadence_days=key.cadence_days, text=key.calendar)


def revoke(*, key_id: UUID, request_id: UUID, actor: Actor, now: datetime) -> Key:
    """End a key for good; its name, facts and history stay readable. Idempotent.

    Raises WrongState on a key that never lived.
    """
    _assert_in_transaction()
    key = lock(key_id=key_id)
    if key.state == KeyState.REVOKED:
        return key
    if key.state == KeyState.REQUESTED:
        raise WrongState(key)
    key.state, key.revoked_at = KeyState.REVOKED, now
    key.rotation_due_at, key.rotation_cause = None, ""
    key.save()
    record("key.revoked", key, actor=actor, now=now, request_id=request_id)
    grants.end_all_but_view(key=key, request_id=request_id, actor=actor, now=now)
    return key


def release(*, key_id: UUID, request_id: UUID, state: str, actor: Actor, now: datetime) -> None:
    """Free the name of a key whose request ended undone. Does nothing to a key that lived."""
    _assert_in_transaction()
    key = lock(key_id=key_id)
    if key.state != KeyState.REQUESTED or key.released_at is not None:
        return
    key.released_at = now
    key.save(update_fields=["released_at"])
    record(
        "key.released", key, actor=actor, now=now, request_id=request_id, fields={"state": state}
    )
    grants.end_all(key=key, request_id=request_id, actor=actor, now=now)


def seed_environments(*, now: datetime, actor: Actor) -> None:
    """Make `dev` and `prod` when there is no environment at all. Idempotent."""
    _assert_in_transaction()
    if Environment.objects.exists():
        return
    create_environment(slug="dev", title="Development", protected=False, now=now, actor=actor)
    create_environment(slug="prod", title="Production", protected=True, now=now, actor=actor)


def create_environment(
    *, slug: str, title: str, protected: bool, now: datetime, actor: Actor
) -> Environment:
    """Make an environment unless its slug exists. Raises naming.BadName."""
    _assert_in_transaction()
    row, is_new = Environment.objects.get_or_create(
        slug=naming.key_name(slug),
        defaults={"title": title, "protected": protected, "created_at": now},
    )
    if is_new:
        ledger.record(
            "environment.created",
            actor=actor,
            subject=Subject("environment", str(row.pk), row.slug),
            now=now,
            fields={"protected": protected},
        )
    return row


def _declare(key: Key, declared: Declaration, *, provider: str, connection_id: UUID) -> None:
    """Copy a declaration into a row; owner, state and dates are never taken from it (R39)."""
    environment = Environment.objects.filter(slug=declared.environment).first()
    if environment is None:
        raise NotVisible(f"environment {declared.environment}")
    key.name = naming.key_name(declared.name)
    key.environment = environment
    key.team = people.team_by_slug(declared.team).group
    key.provider, key.connection_id = provider, connection_id
    key.backup_owner_id = declared.backup_owner
    key.options = dict(declared.options)
    key.allowed_hosts, key.labels = list(declared.allowed_hosts), list(declared.labels)
    for name in _COPIED:
        setattr(key, name, getattr(declared, name))


_COPIED = (
    "title",
    "purpose",
    "volume_per_day",
    "external_input",
    "delivery_mode",
    "lifetime_days",
    "cadence_days",
    "calendar",
)


def _save_name(key: Key, *, is_new: bool) -> None:
    try:
        # The savepoint keeps the caller's transaction usable after a name that is taken.
        with transaction.atomic():
            key.save(force_insert=is_new, force_update=not is_new)
    except IntegrityError as error:
        if not any(name in str(error) for name in _RESERVED):
            raise
        raise NameTaken(key.name) from error


def _comparable(key: Key) -> dict[str, JSON]:
    kept = {field.attname for field in Key._meta.concrete_fields}  # noqa: SLF001  # Public by use.
    return {name: getattr(key, name) for name in kept}


def _facts(key: Key) -> dict[str, JSON]:
    return {
        "name": key.name,
        "environment": key.environment.slug,
        "provider": key.provider,
        "connection": str(key.connection_id),
        "team": key.team.name,
        "lifetime_days": key.lifetime_days,
    }


def record(
    event: str,
    key: Key,
    *,
    actor: Actor,
    now: datetime,
    request_id: UUID | None = None,
    fields: Mapping[str, JSON] | None = None,
) -> None:
    """Write a line of the ledger about a key, in the caller's transaction."""
    ledger.record(
        event, actor=actor, subject=subject(key), now=now, fields=fields, request_id=request_id
    )


def _assert_in_transaction() -> None:
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("A key changes only inside the transaction of the act that changes it.")
