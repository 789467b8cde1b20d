"""Existing credentials that people bring: sealed while they wait, taken in or deleted.

Nothing here calls a provider. A value that waits lies sealed under its own id,
bound to that place, until the approved act moves it into the first version of
its key; when the request ends undone it is deleted in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connection as database

from approvals.ports import Actor
from keyvault.audit import ledger
from keyvault.connections import places, selectors, shadows
from keyvault.connections.calls import told
from keyvault.connections.models import Adoption, AdoptionState
from keyvault.crypto import digest, envelope
from keyvault.crypto.keyring import NoKey
from keyvault.crypto.secret import Secret
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key
from keyvault.providers.base import Issued, RemoteKey
from keyvault.vault import sealing
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault
from keyvault.vault.sealing import Place

if TYPE_CHECKING:
    from keyvault.vault.models import Version

_KIND = "adoption"
_LOCK = 0x6B76_0012  # "kv": the advisory lock of whoever looks for a value and then brings it.
_KNOWN = (AdoptionState.WAITING, AdoptionState.TAKEN)


class NotOpen(NoKey):
    """The installation is sealed, so that nothing can be brought."""


@dataclass(frozen=True, slots=True)
class Known:
    """The key that holds a value already. `is_asked`: it waits for a decision itself."""

    key_id: UUID
    name: str
    is_asked: bool


def one_at_a_time() -> None:
    """Wait until nobody else looks for values and brings them, to the end of the transaction.

    The constraint alone would keep a value from being brought twice, but would
    fail a whole import for one value of it.
    """
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def require_open() -> None:
    """Raise NotOpen on a sealed start, before anything is looked at."""
    try:
        sealing.require_open()
        fingerprint("")
    except (NoKey, digest.NoIndexKey) as error:
        raise NotOpen(str(error)) from None


def fingerprint(value: str) -> str:
    """Return the vault's keyed fingerprint of a value. Raises digest.NoIndexKey."""
    return sealing.fingerprint({selectors.VALUE: Secret.of(value)})


def known(fingerprints: Collection[str]) -> Mapping[str, Known]:
    """Return which of these values are in the inventory, or wait to be, by fingerprint."""
    brought = Adoption.objects.select_related("key").filter(
        fingerprint__in=fingerprints, state__in=_KNOWN
    )
    found = {
        row.fingerprint: Known(row.key_id, row.key.name, row.state == AdoptionState.WAITING)
        for row in brought
    }
    for version in versions.by_fingerprints(fingerprints):
        found[version.fingerprint] = Known(version.key_id, version.key.name, is_asked=False)
    return found


def taken_ids(connection_id: UUID) -> frozenset[str]:
    """Return the provider's ids at a Connection that somebody has asked to adopt already."""
    rows = Adoption.objects.filter(connection_id=connection_id, state__in=_KNOWN)
    return frozenset(rows.exclude(remote_id="").values_list("remote_id", flat=True))


def propose(*, key: Key, value: str, remote_id: str, actor: Actor, now: datetime) -> Adoption:
    """Seal the value of a reserved key that waits for approval, in the caller's transaction.

    remote_id: the provider's id of it, as the last look there has seen it, or empty.
    Raises shadows.NotSeen, keyring.NoKey.
    """
    seen = shadows.get(connection_id=key.connection_id, remote_id=remote_id) if remote_id else None
    row = Adoption.objects.create(
        key=key,
        connection_id=key.connection_id,
        fingerprint=fingerprint(value),
        remote_id=remote_id,
        remote=_identity(RemoteKey.from_json(seen.remote)) if seen else {},
        created_at=now,
    )
    name = selectors.value_field(key.provider)
    sealing.put(_place(row), {name: Secret.of(value)}, now=now)
    fields = {
        "fingerprint": row.fingerprint,
        "remote_id": remote_id,
        "connection": str(key.connection_id),
    }
    _record("adoption.proposed", key, actor=actor, now=now, fields=fields)
    return row


def bind(*, key_ids: Collection[UUID], request_id: UUID) -> None:
    """Note which request brings some keys, in the caller's transaction."""
    Adoption.objects.filter(key_id__in=key_ids, request_id=None).update(request_id=request_id)


def take(*, key: Key, request_id: UUID, actor: Actor, now: datetime) -> Version:
    """Make the value that waits the current version of its key, in the caller's transaction.

    Idempotent. Raises Unfinished, NeedsPerson.
    """
    row = Adoption.objects.select_for_update().get(key=key)
    with told(), _opened():
        version = vault.adopt(
            key_id=key.pk,
            brought=vault.Brought(
                place=_place(row),
                fingerprint=row.fingerprint,
                server=places.leads_to(key.connection),
                remote=row.remote,
            ),
            request_id=request_id,
            now=now,
            actor=actor,
        )
    waiting = Adoption.objects.filter(pk=row.pk, state=AdoptionState.WAITING)
    if waiting.update(state=AdoptionState.TAKEN, ended_at=now) and row.remote_id:
        shadows.forget(connection_id=row.connection_id, remote_id=row.remote_id)
    return version


def drop(*, key_id: UUID, actor: Actor, now: datetime) -> None:
    """Delete a value whose request ended undone, in the caller's transaction. Idempotent."""
    row = Adoption.objects.select_for_update().select_related("key").filter(key_id=key_id).first()
    if row is None or row.state != AdoptionState.WAITING:
        return
    row.state, row.ended_at = AdoptionState.DROPPED, now
    row.save(update_fields=["state", "ended_at"])
    sealing.remove(_place(row))
    _record(
        "adoption.dropped", row.key, actor=actor, now=now, fields={"fingerprint": row.fingerprint}
    )


@contextmanager
def _opened() -> Iterator[None]:
    """Say that a value does not open in its place as every reader of the vault says it."""
    try:
        yield
    except envelope.Refused:
        raise sealing.Unreadable from None


def _identity(seen: RemoteKey) -> dict[str, Any]:
    """Return what the calls of a provider need to know of a credential that it has listed."""
    return Issued(seen.remote_id, tag=seen.tag, slot=seen.slot).to_json()


def _place(row: Adoption) -> Place:
    return Place(_KIND, row.pk, 0)


def _record(
    event: str, key: Key, *, actor: Actor, now: datetime, fields: Mapping[str, Any]
) -> None:
    ledger.record(event, actor=actor, subject=inventory.subject(key), now=now, fields=fields)
