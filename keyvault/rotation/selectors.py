"""Read rotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Count, Q, QuerySet

from approvals.ports import NotVisible
from keyvault.accounts.models import User
from keyvault.inventory import access
from keyvault.rotation import saga, sight
from keyvault.rotation.models import ENDED, Delivery, DeliveryState, Rotation
from keyvault.rotation.saga import Choice, State
from keyvault.vault import selectors as vault

if TYPE_CHECKING:
    from keyvault.vault.models import Version

_DONE = (DeliveryState.CONFIRMED, DeliveryState.EXCUSED)


def by_id(rotation_id: UUID) -> Rotation:
    """Return one rotation, for whoever has passed another gate. Raises NotVisible."""
    found = _all().filter(pk=rotation_id).first()
    if found is None:
        raise NotVisible(f"rotation {rotation_id}")
    return found


def rotation(person: User, rotation_id: UUID) -> Rotation:
    """Return one rotation of a key that this person may see. Raises NotVisible."""
    found = by_id(rotation_id)
    access.access_key(person, found.key_id, "view")
    return found


def rotations_for(person: User, *, state: str = "") -> QuerySet[Rotation]:
    """Return the rotations of keys that this person may see: open, held, ended, or all."""
    rows = _all().filter(key__in=access.visible_keys(person))
    match state:
        case "open":
            return rows.exclude(state__in=ENDED)
        case "held":
            return rows.filter(state=State.HELD)
        case "ended":
            return rows.filter(state__in=ENDED)
    return rows


def open_of(key_id: UUID) -> Rotation | None:
    """Return the rotation of a key that is not over, or None."""
    return _all().filter(key_id=key_id).exclude(state__in=ENDED).first()


def of_key(key_id: UUID, *, most: int = 20) -> Sequence[Rotation]:
    """Return the rotations of a key, newest first."""
    return list(_all().filter(key_id=key_id)[:most])


def of_key_before(key_id: UUID, *, mark: str, most: int) -> Sequence[Rotation]:
    """Return rotations of a key that are older than a mark, newest first; from the first without."""
    rows = _all().filter(key_id=key_id)
    if mark:
        at, _, last = mark.partition(" ")
        moment = datetime.fromisoformat(at)
        rows = rows.filter(Q(created_at__lt=moment) | Q(created_at=moment, pk__gt=UUID(last)))
    return list(rows[:most])


def mark_of(found: Rotation) -> str:
    """Return the place of a rotation in the list of its key."""
    return f"{found.created_at.isoformat()} {found.pk}"


def by_request(request_id: UUID) -> UUID | None:
    """Return the id of the rotation that a request to rotate has begun, or None."""
    found = Rotation.objects.filter(request_id=request_id, slot=None)
    return found.values_list("pk", flat=True).first()


def deliveries(rotation_id: UUID) -> Sequence[Delivery]:
    """Return the dependents' parts in a rotation, wave by wave."""
    rows = Delivery.objects.filter(rotation_id=rotation_id).select_related("dependent__agent")
    return list(rows.order_by("wave", "dependent__name"))


@dataclass(frozen=True, slots=True)
class Versions:
    """The version that a rotation leaves and the one that it makes, once there is one."""

    old: Version | None
    new: Version | None


def versions(found: Rotation) -> Versions:
    """Return the two versions of a rotation."""
    known = vault.by_ids([one for one in (found.old_id, found.new_id) if one])
    pending = None if found.new_id else vault.pending(found.key_id)
    old = known.get(found.old_id) if found.old_id else None
    return Versions(old, known.get(found.new_id) if found.new_id else pending)


def choices(found: Rotation) -> frozenset[Choice]:
    """Return what a person may choose for a rotation that is held; nothing for another."""
    if found.state != State.HELD:
        return frozenset()
    return saga.choices(sight.where_held(found.pk))


def may_roll_back(found: Rotation) -> bool:
    """Say whether a rotation that runs can still be sent back."""
    if found.state == State.HELD:
        return Choice.ROLL_BACK in choices(found)
    is_alive = found.old_verdict != saga.Old.INVALID
    return State(found.state) in saga.REVERSIBLE and is_alive and not found.wants_back


def _all() -> QuerySet[Rotation]:
    done = Count("deliveries", filter=Q(deliveries__state__in=_DONE))
    rows = Rotation.objects.select_related("key__connection", "key__owner")
    counted = rows.annotate(done_count=done, delivery_count=Count("deliveries"))
    return counted.order_by("-created_at", "pk")
