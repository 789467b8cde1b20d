"""Write versions: each moves through its states once, with its ledger line, sealed throughout.

    pending -> current <-> previous -> revoked -> destroyed
    (adopted)  current                                      a value that people brought
    pending ---------------------------------> destroyed   (it never came to be)

All but `open_material` and `reveal` run inside the caller's transaction and
hold the row lock of the key, so that two workers never number, promote or
revoke at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Max

from approvals.ports import Actor
from keyvault.crypto.secret import Secret
from keyvault.inventory.models import KeyState
from keyvault.vault import sealing
from keyvault.vault.models import Version, VersionState
from keyvault.vault.sealing import Place
from keyvault.vault.steps import WrongState, lock, lock_key, place_of, record, require, subject_of

_OPENABLE = (VersionState.PENDING, VersionState.CURRENT, VersionState.PREVIOUS)
_ENDED = (VersionState.REVOKED, VersionState.DESTROYED)


@dataclass(frozen=True, slots=True)
class Credential:
    """What a provider issued: `remote` is its identity there, `public` may be shown."""

    remote_id: str
    remote: Mapping[str, Any]
    public: Mapping[str, str]
    material: Mapping[str, Secret]
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Brought:
    """A value that people brought: where it waits sealed, and what is known of it.

    `server` names where it is valid; `remote` is its identity there, empty where nobody knows it.
    """

    place: Place
    fingerprint: str
    server: Mapping[str, str]
    remote: Mapping[str, Any]


def begin(
    *,
    key_id: UUID,
    request_id: UUID,
    now: datetime,
    actor: Actor,
    server: Mapping[str, str],
) -> Version:
    """Return this request's pending version of a key; make the next one if there is none.

    server: what names the server that will issue it; kept with the version. Raises
    WrongState while another request's version is on its way, and on a key that has ended.
    """
    key = lock_key(key_id)
    if key.state == KeyState.REVOKED:
        raise WrongState(f"{key.name} is revoked.")
    pending = key.versions.filter(state=VersionState.PENDING).first()
    if pending is not None and pending.request_id == request_id:
        return pending
    if pending is not None:
        raise WrongState(f"Version {pending.number} of {key.name} is still on its way.")
    last = key.versions.aggregate(last=Max("number"))["last"] or 0
    version = Version.objects.create(
        key=key, number=last + 1, server=dict(server), request_id=request_id, created_at=now
    )
    record("version.created", version, actor, now, {}, request_id)
    return version


def adopt(
    *,
    key_id: UUID,
    brought: Brought,
    request_id: UUID,
    now: datetime,
    actor: Actor,
) -> Version:
    """Make a value that people brought the first and current version of a key. Idempotent.

    What lies sealed in its place is sealed anew for the key, and gone from there. Raises
    WrongState on a key that has a version already, and where nothing was brought;
    keyring.NoKey, envelope.Refused.
    """
    key = lock_key(key_id)
    found = key.versions.order_by("number").first()
    if found is not None and found.request_id == request_id and found.adopted_at is not None:
        return found
    if found is not None:
        raise WrongState(f"{key.name} has a version already.")
    version = Version.objects.create(
        key=key,
        number=1,
        state=VersionState.CURRENT,
        server=dict(brought.server),
        remote_id=brought.remote.get("remote_id", ""),
        remote=dict(brought.remote),
        fingerprint=brought.fingerprint,
        request_id=request_id,
        created_at=now,
        issued_at=now,
        promoted_at=now,
        adopted_at=now,
    )
    if not sealing.move(brought.place, place_of(version), now=now):
        raise WrongState(f"The value that was brought for {key.name} is gone.")
    fields = {"remote_id": version.remote_id, "fields": sealing.fields(place_of(version))}
    record("version.adopted", version, actor, now, fields, request_id)
    return version


def store(
    *, version_id: UUID, credential: Credential, provider: str, now: datetime, actor: Actor
) -> Version:
    """Seal what the provider issued into a pending version. Repeating it replaces the values.

    Raises WrongState, keyring.NoKey, keyring.Exhausted.
    """
    version = lock(version_id)
    require(version, VersionState.PENDING)
    sealing.put(place_of(version), credential.material, now=now)
    version.remote_id, version.remote = credential.remote_id, dict(credential.remote)
    version.public, version.expires_at = dict(credential.public), credential.expires_at
    version.fingerprint = sealing.fingerprint(credential.material)
    version.issued_at = now
    version.save()
    fields = {"remote_id": version.remote_id, "provider": provider}
    record("version.issued", version, actor, now, fields, version.request_id)
    return version


def promote(*, version_id: UUID, now: datetime, actor: Actor) -> Version:
    """Make a stored pending version the current one; the one before it enters its grace.

    A version that is current already is returned as it is. Raises WrongState.
    """
    version = lock(version_id)
    if version.state == VersionState.CURRENT:
        return version
    require(version, VersionState.PENDING)
    if version.issued_at is None:
        raise WrongState(f"Version {version.number} has no value yet, so it cannot be current.")
    before = version.key.versions.filter(state=VersionState.CURRENT).first()
    if before is not None:
        before.state = VersionState.PREVIOUS
        before.save(update_fields=["state"])
    version.state, version.promoted_at = VersionState.CURRENT, now
    version.save(update_fields=["state", "promoted_at"])
    fields = {"remote_id": version.remote_id, "previous": before.number if before else None}
    record("version.promoted", version, actor, now, fields, version.request_id)
    return version


def fall_back(*, version_id: UUID, now: datetime, actor: Actor) -> Version:
    """Make the version in its grace current again; the one that is current enters its grace.

    A version that is current already is returned as it is. Raises WrongState.
    """
    version = lock(version_id)
    if version.state == VersionState.CURRENT:
        return version
    require(version, VersionState.PREVIOUS)
    newer = version.key.versions.filter(state=VersionState.CURRENT).first()
    if newer is not None:
        newer.state = VersionState.PREVIOUS
        newer.save(update_fields=["state"])
    version.state = VersionState.CURRENT
    version.save(update_fields=["state"])
    fields = {"remote_id": version.remote_id, "previous": newer.number if newer else None}
    record("version.fell_back", version, actor, now, fields, version.request_id)
    return version


def note_suspended(*, version_id: UUID, now: datetime, actor: Actor) -> Version:
    """Note that the version in its grace is being switched off at the provider. Idempotent.

    Written before the call, so that no version is off and nobody knows by whom. Raises WrongState.
    """
    version = lock(version_id)
    require(version, VersionState.PREVIOUS)
    return _suspend(version, now, "version.suspended", actor, now)


def note_resumed(*, version_id: UUID, now: datetime, actor: Actor) -> Version:
    """Note that a version is not switched off at the provider any more. Idempotent."""
    return _suspend(lock(version_id), None, "version.resumed", actor, now)


def _suspend(  # noqa: PLR0917 - private, and both callers pass all of it.
    version: Version, at: datetime | None, event: str, actor: Actor, now: datetime
) -> Version:
    if (version.suspended_at is None) is (at is None):
        return version
    version.suspended_at = at
    version.save(update_fields=["suspended_at"])
    record(event, version, actor, now, {"remote_id": version.remote_id}, version.request_id)
    return version


def mark_revoked(
    *, version_id: UUID, cause: str, now: datetime, actor: Actor, request_id: UUID | None
) -> Version:
    """Note that the provider refuses this version from now on. Repeating it changes nothing."""
    version = lock(version_id)
    if version.state in _ENDED:
        return version
    version.state, version.revoked_at = VersionState.REVOKED, now
    version.save(update_fields=["state", "revoked_at"])
    fields = {"remote_id": version.remote_id, "cause": cause}
    record("version.revoked", version, actor, now, fields, request_id)
    return version


def destroy(
    *, version_id: UUID, cause: str, now: datetime, actor: Actor, request_id: UUID | None
) -> Version:
    """Delete the sealed values of a version that is revoked or never came to be.

    Raises WrongState for a version that may be in use.
    """
    version = lock(version_id)
    if version.state == VersionState.DESTROYED:
        return version
    require(version, VersionState.PENDING, VersionState.REVOKED)
    place = place_of(version)
    names = sealing.fields(place)
    sealing.remove(place)
    version.state, version.destroyed_at = VersionState.DESTROYED, now
    version.save(update_fields=["state", "destroyed_at"])
    record("version.destroyed", version, actor, now, {"fields": names, "cause": cause}, request_id)
    return version


def open_material(
    *, version_id: UUID, actor: Actor, now: datetime, purpose: str
) -> dict[str, Secret]:
    """Return the values of a version for use by the product itself, never for a page.

    Outermost: the event is committed before the first byte is opened. Raises
    NotVisible, WrongState, sealing.Unreadable, keyring.NoKey.
    """
    with transaction.atomic(durable=True):
        version = lock(version_id)
        require(version, *_OPENABLE)
        place = place_of(version)
        fields = {"fields": sealing.fields(place), "purpose": purpose}
        record("secret.opened", version, actor, now, fields, None)
    subject = subject_of(version)
    return sealing.take(place, actor=actor, subject=subject, now=now, purpose=purpose)
