"""What every step of a version shares: the locks, the state that it needs, and its ledger line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from approvals.ports import Actor, NotVisible, Subject
from keyvault.audit import ledger
from keyvault.inventory.models import Key
from keyvault.vault.models import Version, VersionState
from keyvault.vault.sealing import Place


class WrongState(Exception):
    """The version is not in a state that allows this step. The message names both."""


def subject_of(version: Version) -> Subject:
    """Return the key of a version as the ledger names it."""
    return Subject("key", str(version.key_id), version.key.name)


def place_of(version: Version) -> Place:
    """Return where the values of a version lie."""
    return Place("key", version.key_id, version.number)


def lock_key(key_id: UUID) -> Key:
    """Lock a key in the caller's transaction. Raises NotVisible."""
    key = Key.objects.select_for_update(of=("self",)).filter(pk=key_id).first()
    if key is None:
        raise NotVisible(str(key_id))
    return key


def lock(version_id: UUID) -> Version:
    """Lock the key, then read the version: one order of locks everywhere, so no deadlock.

    Raises NotVisible.
    """
    found = Version.objects.filter(pk=version_id).values_list("key_id", flat=True).first()
    if found is None:
        raise NotVisible(str(version_id))
    lock_key(found)
    return Version.objects.select_related("key").get(pk=version_id)


def require(version: Version, *states: VersionState) -> None:
    """Refuse a step for which a version is in none of the given states. Raises WrongState."""
    if version.state not in states:
        wanted = " or ".join(str(state.label) for state in states)
        raise WrongState(
            f"Version {version.number} is {VersionState(version.state).label}, not {wanted}."
        )


def record(  # noqa: PLR0917 - every caller passes all of it.
    event: str,
    version: Version,
    actor: Actor,
    now: datetime,
    fields: Mapping[str, Any],
    request_id: UUID | None,
) -> None:
    """Write the ledger line of a step of a version, in the caller's transaction."""
    ledger.record(
        event,
        actor=actor,
        subject=subject_of(version),
        now=now,
        fields={"number": version.number, **fields},
        request_id=request_id,
    )
