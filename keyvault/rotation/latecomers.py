"""Whoever came to a key while it was rotated: an agent that has fetched the version that is to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from approvals.ports import Run
from keyvault.agents import selectors as agents
from keyvault.dependents import services as dependents
from keyvault.inventory import services as inventory
from keyvault.rotation import evidence, services
from keyvault.rotation.models import Delivery, DeliveryState
from keyvault.rotation.saga import State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from keyvault.rotation.models import Rotation
    from keyvault.rotation.sight import Sight


def admit(sight: Sight, run: Run) -> None:
    """Have a rotation wait for the agents that began with the version that it ends. Raises LostClaim.

    They were no dependents when it began, and go on with what they have fetched.
    """
    is_back = sight.rotation.state == State.ROLLING_BACK
    ending = sight.new if is_back else sight.old
    if ending is None or not sight.seen.key_lives:
        return
    known = [one.dependent.agent_id for one in sight.deliveries if one.dependent.agent_id]
    may = agents.users_of(sight.rotation.key, now=run.now).exclude(pk__in=known)
    names = dict(may.values_list("pk", "name"))
    late = evidence.last_read(sight.rotation, names, number=ending.number)
    if late:
        with transaction.atomic(durable=True):
            run.fence()
            _admit(sight.rotation, {one: names[one] for one in late}, run, has_new=not is_back)


def _admit(rotation: Rotation, late: Mapping[UUID, str], run: Run, *, has_new: bool) -> None:
    key = inventory.lock(key_id=rotation.key_id)
    rows = dependents.complete(key=key, users=late, now=run.now, actor=services.CLOCK)
    for row in rows:
        if row.agent_id not in late:
            continue
        Delivery.objects.create(
            rotation=rotation,
            dependent=row,
            wave=rotation.wave,
            state=DeliveryState.RESTARTING,
            has_new=has_new,
            given_at=Now() if has_new else None,
        )
        state = str(DeliveryState.RESTARTING)
        fields = {"dependent": row.name, "state": state, "note": "It came meanwhile."}
        services.record("rotation.delivered", rotation, services.CLOCK, run.now, fields)
