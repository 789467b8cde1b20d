"""An incident meets a rotation that is open already: from then on it waits no longer than its own would."""

from __future__ import annotations

from datetime import datetime

from approvals.ports import Actor
from keyvault.inventory.models import Key
from keyvault.rotation import services
from keyvault.rotation.models import ENDED, Rotation


def may_hurry(rotation: Rotation) -> bool:
    """Say whether an incident would cut anything that a rotation waits for."""
    return rotation.state not in ENDED and services.cut(rotation.terms) != rotation.terms


def hurry_open(*, key: Key, reason: str, actor: Actor, now: datetime) -> None:
    """Cut the terms of the open rotation of a locked key, if there is one."""
    rows = Rotation.objects.select_related("key").select_for_update(of=("self",))
    rotation = rows.filter(key=key).exclude(state__in=ENDED).first()
    if rotation is not None and may_hurry(rotation):
        hurry(rotation=rotation, reason=reason, actor=actor, now=now)


def hurry(*, rotation: Rotation, reason: str, actor: Actor, now: datetime) -> None:
    """Cut the terms of a locked rotation, in the caller's transaction, and have its job look.

    One that is held still waits for its person.
    """
    terms = services.cut(rotation.terms)
    Rotation.objects.filter(pk=rotation.pk).update(terms=terms)
    fields = {name: terms[name] for name in ("grace_s", "quiet_s", "brownout_s")}
    services.record("rotation.hurried", rotation, actor, now, {**fields, "reason": reason})
    services.ring(rotation.pk)
