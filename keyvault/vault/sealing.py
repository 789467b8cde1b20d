"""Put sealed values into their places and take them out again.

Within the product only `keyvault.vault` and `keyvault.connections` come here;
whoever opens a value records it first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from approvals.ports import Actor, Subject
from keyvault.audit import ledger
from keyvault.crypto import digest, envelope, keyring
from keyvault.crypto.envelope import Context
from keyvault.crypto.secret import Secret
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.vault.models import Sealed


class Unreadable(Exception):
    """A sealed value does not open in its place. Says nothing else, to nobody."""

    def __init__(self) -> None:
        super().__init__("This value cannot be read. An administrator has been told.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where values lie: kind and id of what they belong to, and its number."""

    kind: str
    id: UUID
    number: int

    def context(self, field: str) -> Context:
        """Return what a blob in this place is bound to."""
        return Context(self.kind, self.id, self.number, field)


def put(place: Place, material: Mapping[str, Secret], *, now: datetime) -> None:
    """Seal `material` into `place`, in place of whatever lay there, in the caller's transaction.

    Raises keyring.NoKey, keyring.Exhausted.
    """
    _inside()
    ring = keyring.active()
    remove(place)
    Sealed.objects.bulk_create(
        Sealed(
            subject_kind=place.kind,
            subject_id=place.id,
            number=place.number,
            field=field,
            blob=envelope.seal(secret, context=place.context(field), ring=ring),
            kek_id=ring.active_id.hex(),
            created_at=now,
        )
        for field, secret in material.items()
    )


def remove(place: Place) -> int:
    """Delete the values of a place, wrapped data keys included; return how many there were.

    Without its wrapped data key a ciphertext in a backup opens only with that
    backup's own row and the key-encryption key of its day.
    """
    _inside()
    return _rows(place).delete()[0]


def fields(place: Place) -> list[str]:
    """Return the names of the values that lie in a place."""
    return list(_rows(place).order_by("field").values_list("field", flat=True))


def take(
    place: Place, *, actor: Actor, subject: Subject, now: datetime, purpose: str
) -> dict[str, Secret]:
    """Return the values of a place; the caller has recorded the opening and committed it.

    A value that does not open is recorded and made a finding, in a transaction
    of its own. Raises Unreadable, keyring.NoKey.
    """
    ring = keyring.active()
    material = {}
    for row in _rows(place):
        context = place.context(row.field)
        try:
            material[row.field] = envelope.open(bytes(row.blob), context=context, ring=ring)
        except envelope.Refused:
            _record_mismatch(context, actor=actor, subject=subject, now=now, purpose=purpose)
            raise Unreadable from None
    return material


def move(source: Place, target: Place, *, now: datetime) -> bool:
    """Seal the values of `source` again for `target`, in the caller's transaction.

    Returns False when nothing lies in `source`. Raises envelope.Refused.
    """
    _inside()
    ring = keyring.active()
    material = {
        row.field: envelope.open(bytes(row.blob), context=source.context(row.field), ring=ring)
        for row in _rows(source)
    }
    if not material:
        return False
    put(target, material, now=now)
    remove(source)
    return True


def require_open() -> None:
    """Raise keyring.NoKey on a sealed start, before anything is written or burnt."""
    keyring.active()


def fingerprint(material: Mapping[str, Secret]) -> str:
    """Return one keyed fingerprint over all values, by which people compare and scanners match.

    A single value gives its own fingerprint, so that a leaked string is found
    again. Raises digest.NoIndexKey.
    """
    if len(material) == 1:
        return digest.fingerprint(next(iter(material.values())))
    parts = [f"{name}:{digest.fingerprint(secret)}" for name, secret in sorted(material.items())]
    return digest.keyed("material fingerprint v1", "\n".join(parts)) if parts else ""


def _rows(place: Place) -> QuerySet[Sealed]:
    return Sealed.objects.filter(subject_kind=place.kind, subject_id=place.id, number=place.number)


def _inside() -> None:
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("sealed values change only inside the transaction of an act")


def _record_mismatch(
    context: Context, *, actor: Actor, subject: Subject, now: datetime, purpose: str
) -> None:
    with transaction.atomic():
        ledger.record(
            "crypto.context_mismatch",
            actor=actor,
            subject=subject,
            now=now,
            fields={
                "kind": context.kind,
                "number": context.number,
                "field": context.field,
                "purpose": purpose,
            },
            outcome="error",
        )
        findings.open(
            kind=FindingKind.MISMATCH,
            subject=subject,
            detail=f"{context.kind} {context.number} {context.field}",
            sentence=(
                f"The sealed field {context.field} of version {context.number} does not open "
                "in its place. Somebody wrote into the database past the product, or the row "
                "is damaged."
            ),
            now=now,
        )
