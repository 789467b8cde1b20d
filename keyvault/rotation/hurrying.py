"""An incident meets a rotation that is open already: from then on it waits no longer than its own would."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from approvals.ports import Actor
from keyvault.inventory.models import Key
from keyvault.rotation import services
from keyvault.rotation.models import ENDED, Rotation


def hurry(*, key: Key, request_id: UUID, actor: Actor, now: datetime) -> None:
    """Cut the terms of the open rotation of a locked key, in the caller's transaction.

    request_id: the request of the incident. One that is held still waits for its person.
    """
    rows = Rotation.objects.select_related("key").select_for_update(of=("self",))
    rotation = rows.filter(key=key).exclude(state__in=ENDED).first()
    if rotation is None or (terms := services.cut(rotation.terms)) == rotation.terms:
        return
    Rotation.objects.filter(pk=rotation.pk).update(terms=terms)
    fields = {name: terms[name] for name in ("grace_s", "quiet_s", "brownout_s")}
    services.record("rotation.hurried", rotation, actor, now, {**fields, "for": str(request_id)})
    services.ring(rotation.pk)
