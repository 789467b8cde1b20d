"""A dependent says itself which version it has loaded, and whether it is well with it.

The word counts like a heartbeat, because it is written where heartbeats are:
only the agent's own token brings it here, and only what the dependent is
registered for is proof.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals import queue
from keyvault.dependents.models import Health
from keyvault.rotation import services
from keyvault.rotation.models import ENDED, Delivery, Rotation
from keyvault.rotation.saga import State
from keyvault.usage import loaded
from keyvault.vault import selectors as versions


class NotDependent(Exception):
    """The agent is none of the dependents that this rotation moves."""


class NotHeard(Exception):
    """What was said proves nothing in this rotation. The message says why."""


def confirm(
    *, rotation_id: UUID, agent_id: UUID, number: int, is_healthy: bool, now: datetime
) -> None:
    """Take an agent's word for itself and have the rotation look at once; outermost.

    The caller has checked that the agent may use the key at this moment. A rotation that
    is held because it was late goes on; every other hold is a person's to end. Raises
    NotDependent, NotHeard.
    """
    found = Delivery.objects.filter(rotation_id=rotation_id, dependent__agent_id=agent_id)
    delivery = found.select_related("dependent", "rotation__key").first()
    if delivery is None:
        raise NotDependent("This agent is no dependent that the rotation moves.")
    _require_proof(delivery, number)
    with transaction.atomic(durable=True):
        loaded.report(
            key_id=delivery.rotation.key_id,
            agent_id=agent_id,
            number=number,
            is_healthy=is_healthy,
            now=now,
        )
        queue.hasten(kind=services.JOB, subject_id=rotation_id)


def _require_proof(delivery: Delivery, number: int) -> None:
    """Raise NotHeard unless this word, from this dependent, is proof of where it stands."""
    rotation, name = delivery.rotation, delivery.dependent.name
    if rotation.state in ENDED:
        raise NotHeard("This rotation is over.")
    if delivery.dependent.health == Health.READS:
        raise NotHeard(
            f"{name} is followed by what it reads from a gateway. Have it registered as one that "
            "reports, then its word counts."
        )
    if delivery.dependent.health == Health.BY_HAND:
        raise NotHeard(f"A person confirms for {name}, on the page of the rotation.")
    if delivery.dependent.health == Health.PROBED:
        raise NotHeard(f"{name} is asked over HTTP: what its address names is the proof.")
    new = versions.version(rotation.new_id).number if rotation.new_id else None
    if number not in _numbers(rotation, new):
        raise NotHeard(f"This rotation is about no version {number}.")
    if number == new and not delivery.has_new and rotation.state != State.ROLLING_BACK:
        raise NotHeard(f"Version {number} has not been given to {name} yet.")


def _numbers(rotation: Rotation, new: int | None) -> set[int]:
    old = versions.version(rotation.old_id).number if rotation.old_id else None
    return {number for number in (old, new) if number is not None}
