"""An incident meets a rotation that is open already: from then on it waits no longer than its own would."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from approvals.ports import Actor
from keyvault.inventory.models import Key
from keyvault.rotation import services
from keyvault.rotation.models import ENDED, Rotation
from keyvault.rotation.states import REVERSIBLE

_NOTHING = "and waits for nothing that can be cut."


def may_hurry(rotation: Rotation) -> bool:
    """Say whether an incident would cut anything that a rotation waits for."""
    return not hindrance(rotation)


def hindrance(rotation: Rotation) -> str:
    """Say why an incident would cut nothing of what a rotation waits for; nothing where it would.

    What has leaked is to end soon; on the way back to it, or with its end begun,
    less time for dependents would only have the rotation held earlier.
    """
    if not _is_long(rotation):
        return f"This rotation is {rotation.get_state_display().lower()}, {_NOTHING}"
    if rotation.goes_back or rotation.wants_back:
        return f"This rotation goes back to the old version, {_NOTHING}"
    if (rotation.held_from or rotation.state) not in REVERSIBLE:
        return f"This rotation is ending the old version already, {_NOTHING}"
    return ""


def _is_long(rotation: Rotation) -> bool:
    """Say whether a rotation is open with terms that are longer than those of an incident."""
    return rotation.state not in ENDED and services.cut(rotation.terms) != rotation.terms


def ring_open(key_id: UUID) -> UUID | None:
    """Lock the job of the open rotation of a key, if its terms are long; return the rotation's id.

    Before the key is locked: the worker of a rotation locks its job first, too. Also of one
    that goes back: a hold may have answered that wish by the time that the key is locked.
    """
    rotation = Rotation.objects.filter(key_id=key_id).exclude(state__in=ENDED).first()
    if rotation is not None and _is_long(rotation):
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
