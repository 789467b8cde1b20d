"""Read versions. Nothing here opens a value."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import F, Q, QuerySet

from approvals.ports import NotVisible
from keyvault.vault.models import Version, VersionState


def version(version_id: UUID) -> Version:
    """Return one version with its key. Raises NotVisible."""
    found = _all().filter(pk=version_id).first()
    if found is None:
        raise NotVisible(str(version_id))
    return found


def by_number(key_id: UUID, number: int) -> Version:
    """Return one version of a key. Raises NotVisible."""
    found = _all().filter(key_id=key_id, number=number).first()
    if found is None:
        raise NotVisible(f"{key_id} {number}")
    return found


def versions(key_id: UUID) -> Sequence[Version]:
    """Return every version of a key, newest first."""
    return list(_all().filter(key_id=key_id).order_by("-number"))


def current(key_id: UUID) -> Version | None:
    """Return the version that whoever uses the key gets, or None."""
    return _all().filter(key_id=key_id, state=VersionState.CURRENT).first()


def ends(key_ids: Collection[UUID]) -> dict[UUID, datetime]:
    """Return when the version in use of each key ends at its provider; of those whose version does."""
    found = Version.objects.filter(key__in=key_ids, state=VersionState.CURRENT)
    rows = found.values_list("key_id", "expires_at")
    return {key_id: end for key_id, end in rows if end is not None}


def pending(key_id: UUID) -> Version | None:
    """Return the version that is on its way, or None."""
    return _all().filter(key_id=key_id, state=VersionState.PENDING).first()


def promoted_by(key_id: UUID, request_id: UUID) -> Version | None:
    """Return the version that a request has put into use, whatever became of it, or None."""
    found = _all().filter(key_id=key_id, request_id=request_id, promoted_at__isnull=False)
    return found.order_by("-number").first()


def live(key_id: UUID) -> Sequence[Version]:
    """Return the versions that the provider may accept now, oldest first."""
    states = [VersionState.PENDING, VersionState.CURRENT, VersionState.PREVIOUS]
    return list(_all().filter(key_id=key_id, state__in=states).order_by("number"))


def by_ids(version_ids: Sequence[UUID]) -> dict[UUID, Version]:
    """Return several versions by id; unknown ids are left out."""
    return {found.pk: found for found in _all().filter(pk__in=version_ids)}


def by_fingerprints(fingerprints: Collection[str]) -> Sequence[Version]:
    """Return the versions that have not ended and hold one of these values."""
    states = [VersionState.PENDING, VersionState.CURRENT, VersionState.PREVIOUS]
    return list(_all().filter(fingerprint__in=fingerprints, state__in=states).order_by("number"))


def in_use_through(connection_id: UUID) -> Sequence[Version]:
    """Return the versions in use that were issued through one Connection, wherever it led."""
    states = [VersionState.CURRENT, VersionState.PREVIOUS]
    rows = _all().filter(key__connection_id=connection_id, state__in=states)
    return list(rows.order_by("key__name", "number"))


def ending_first(ahead: timedelta) -> Sequence[Version]:
    """Return the current versions of live keys that end at the provider before their keys do.

    Only those that end less than `ahead` after the key's next rotation, or before it.
    """
    rows = _all().filter(state=VersionState.CURRENT, key__state="live", expires_at__isnull=False)
    rows = rows.filter(expires_at__lt=F("key__expires_at"))
    turn = F("key__rotation_due_at") + ahead
    return list(rows.filter(Q(key__rotation_due_at=None) | Q(expires_at__lt=turn)))


def expected_through(connection_id: UUID) -> Sequence[Version]:
    """Return those of them that are to work: not the one that is switched off for a while."""
    return [row for row in in_use_through(connection_id) if row.suspended_at is None]


def in_use(version_ids: Sequence[UUID]) -> frozenset[UUID]:
    """Return those of the given versions that have not ended."""
    ended = [VersionState.REVOKED, VersionState.DESTROYED]
    found = Version.objects.filter(pk__in=version_ids).exclude(state__in=ended)
    return frozenset(found.values_list("pk", flat=True))


def _all() -> QuerySet[Version]:
    return Version.objects.select_related("key", "revealed_by")
