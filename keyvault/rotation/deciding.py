"""What people decide about a rotation: who may, and then the act. One call for each page and endpoint.

Gate: the permission `rotate` on the key. Whoever may not see the rotation is
told that there is none.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from approvals import digests, ports
from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.dependents.models import Health
from keyvault.inventory import access
from keyvault.inventory.models import KeyPermission
from keyvault.rotation import choosing, selectors, services
from keyvault.rotation.models import Delivery, Rotation


def access_rotation(person: User, rotation_id: UUID) -> Rotation:
    """Return a rotation that this person may decide about. Raises NotVisible."""
    found = selectors.by_id(rotation_id)
    access.access_key(person, found.key_id, KeyPermission.ROTATE)
    return found


def roll_back(*, person: User, rotation_id: UUID, reason: str, now: datetime) -> None:
    """Send a rotation back to the old version. Raises NotVisible, services.WrongMoment."""
    access_rotation(person, rotation_id)
    choosing.roll_back(rotation_id=rotation_id, reason=reason, actor=people.actor(person), now=now)


def extend(*, person: User, rotation_id: UUID, reason: str, now: datetime) -> None:
    """Give a held rotation more time. Raises NotVisible, services.WrongMoment."""
    access_rotation(person, rotation_id)
    choosing.extend(rotation_id=rotation_id, reason=reason, actor=people.actor(person), now=now)


def hurry(*, person: User, rotation_id: UUID, reason: str, now: datetime) -> None:
    """Have a rotation wait no longer than an incident's. Raises NotVisible, services.WrongMoment."""
    access_rotation(person, rotation_id)
    choosing.hurry(rotation_id=rotation_id, reason=reason, actor=people.actor(person), now=now)


def confirm(*, person: User, rotation_id: UUID, delivery_id: int, now: datetime) -> None:
    """Say that a dependent which no program can watch has moved. Raises as `roll_back`."""
    found = delivery(person, rotation_id, delivery_id)
    if found.dependent.health != Health.BY_HAND:
        raise services.WrongMoment(f"{found.dependent.name} says by itself which version it has.")
    choosing.confirm(delivery_id=delivery_id, actor=people.actor(person), now=now)


def excuse(
    *, person: User, rotation_id: UUID, delivery_id: int, reason: str, proof_id: UUID, now: datetime
) -> None:
    """Go on without waiting for one dependent, after a fresh factor. Raises also NotPresent."""
    found = delivery(person, rotation_id, delivery_id)
    choosing.excuse(
        delivery_id=delivery_id,
        reason=reason,
        actor=people.actor(person),
        now=now,
        admit=lambda: ports.presence().consume(
            proof_id, person_id=person.pk, digest=excuse_digest(found), now=now
        ),
    )


def excuse_digest(found: Delivery) -> str:
    """Return what the factor of somebody who skips a dependent is bound to."""
    return digests.act_digest(kind="excuse", delivery=found.pk, rotation=found.rotation_id)


def delivery(person: User, rotation_id: UUID, delivery_id: int) -> Delivery:
    """Return a dependent's part in a rotation that this person may decide about. Raises NotVisible."""
    access_rotation(person, rotation_id)
    for found in selectors.deliveries(rotation_id):
        if found.pk == delivery_id:
            return found
    raise NotVisible(f"delivery {delivery_id}")
