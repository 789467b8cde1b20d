"""An incident meets a rotation that is open already: from then on it waits no longer than its own would."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from approvals.ports import Actor
from keyvault.inventory.models import Key
from keyvault.rotation import services
from keyvault.rotation.models import ENDED, Rotation


def may_hurry(rotation: Rotation) -> bool:
    """Say whether an incident would cut anything that a rotation waits for."""
    return rotation.state not in ENDED and services.cut(rotation.terms) != rotation.terms


def ring_open(key_id: UUID) -> UUID | None:
    """Lock the job of the open rotation of a key, if it can be cut; return the rotation's id.

    Before the key is locked: the worker of a rotation locks its job first, too.
    """
    rotation = Rotation.objects.filter(key_id=key_id).exclude(state__in=ENDED).first()
    if rotation is not None and may_hurry(rotation):
        services.ring(rotation.pk)
    return rotation.pk if rotation is not None else None


def hurry_open(*, key: Key, rung: UUID | None, reason: str, actor: Actor, now: datetime) -> bool:
    """Cut the terms of the open rotation of a locked key; False where it is not the one that was rung."""
    rows = Rotation.objects.select_related("key").select_for_update(of=("self",))
    rotation = rows.filter(key=key).exclude(state__in=ENDED).first()
    if rotation is None or rotation.pk != rung:
        return False
    if may_hurry(rotation):
        hurry(rotation=rotation, reason=reason, actor=actor, now=now)
    return True


def hurry(*, rotation: Rotation, reason: str, actor: Actor, now: datetime) -> None:
    """Cut the terms of a locked rotation, in the caller's transaction, and have its job look.

    One that is held still waits for its person.
    """
    terms = services.cut(rotation.terms)
    Rotation.objects.filter(pk=rotation.pk).update(terms=terms)
    fields = {name: terms[name] for name in ("grace_s", "quiet_s", "brownout_s")}
    services.record("rotation.hurried", rotation, actor, now, {**fields, "reason": reason})
    services.ring(rotation.pk)
