"""Show a value to one person, once: recorded and burnt before the first byte is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals import digests, ports
from keyvault.accounts import selectors as accounts
from keyvault.accounts.models import User
from keyvault.audit import ledger
from keyvault.crypto.secret import Secret
from keyvault.vault import sealing, steps
from keyvault.vault.models import Version, VersionState


class AlreadyRevealed(Exception):
    """The one reveal of this version is used up; the message says when and by whom."""


class NotRevealable(Exception):
    """The version is no longer in use, so showing it would help nobody but a thief."""


@dataclass(frozen=True, slots=True)
class Revealed:
    """What the page shows. `public` is not secret; `material` is, field by field."""

    number: int
    public: Mapping[str, str]
    material: Mapping[str, Secret]


def act_digest(*, version_id: UUID, person_id: UUID, request_id: UUID) -> str:
    """Return what the person's second factor is bound to."""
    return digests.act_digest(
        kind="reveal",
        version_id=str(version_id),
        person_id=str(person_id),
        request_id=str(request_id),
    )


def reveal(
    *, version_id: UUID, person: User, proof_id: UUID, request_id: UUID, now: datetime
) -> Revealed:
    """Burn the one reveal of a version and return its values.

    The caller has checked that `request_id` allows this person to see it. The
    transaction uses up the second factor, burns the reveal by a guarded update
    (of any number of racers one sees its row) and writes the event; only when
    it is committed is anything opened. A crash after that shows nothing, and
    the way forward is a rotation. Raises AlreadyRevealed, NotRevealable,
    ports.NotPresent, ports.NotVisible, sealing.Unreadable, keyring.NoKey.
    """
    digest = act_digest(version_id=version_id, person_id=person.pk, request_id=request_id)
    actor = accounts.actor(person)
    sealing.require_open()
    with transaction.atomic(durable=True):
        version = _burn(version_id, person, now)
        proof = ports.presence().consume(proof_id, person_id=person.pk, digest=digest, now=now)
        place = steps.place_of(version)
        ledger.record(
            "secret.revealed",
            actor=actor,
            subject=steps.subject_of(version),
            now=now,
            fields={
                "number": version.number,
                "fields": sealing.fields(place),
                "digest": digest,
                "method": proof.method,
            },
            request_id=request_id,
        )
    material = sealing.take(
        place, actor=actor, subject=steps.subject_of(version), now=now, purpose="reveal"
    )
    return Revealed(version.number, version.public, material)


def _burn(version_id: UUID, person: User, now: datetime) -> Version:
    fresh = Version.objects.filter(pk=version_id, state=VersionState.CURRENT, revealed_at=None)
    burnt = fresh.update(revealed_at=now, revealed_by=person)
    version = Version.objects.select_related("key", "revealed_by").filter(pk=version_id).first()
    if version is None:
        raise ports.NotVisible(str(version_id))
    if burnt:
        return version
    if version.revealed_at is not None:
        raise AlreadyRevealed(
            f"Version {version.number} was revealed on {version.revealed_at:%Y-%m-%d at %H:%M} "
            f"UTC by {version.revealed_by}. Rotate the key to get a new value."
        )
    raise NotRevealable(f"Version {version.number} is not the current one any more.")
