"""Have an open rotation wait as little as one that an incident begins.

That is what an incident would do, so the policies for one decide: where they agree by
themselves it is done at once, and elsewhere others are asked for the incident first.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from approvals import selectors as requests
from approvals import services
from approvals.policy.rules import Auto
from approvals.ports import NotVisible
from keyvault.accounts.models import User
from keyvault.actions import about_keys, many_keys, rotate_keys
from keyvault.rotation import deciding, hurrying
from keyvault.rotation.models import Trigger
from keyvault.rotation.services import WrongMoment

if TYPE_CHECKING:
    from approvals.models import Request


def hurry(*, person: User, rotation_id: UUID, reason: str, now: datetime) -> Request | None:
    """Cut what a rotation waits for, or return the request that others decide about. Outermost.

    Once they agree, the key is rotated because of an incident: its open rotation waits
    less, and where that has ended meanwhile another begins. Raises NotVisible,
    WrongMoment, about_keys.AlreadyAsked, and what `rotate_keys.ask` raises.
    """
    rotation = deciding.access_rotation(person, rotation_id)
    if hindrance := hurrying.hindrance(rotation):
        raise WrongMoment(hindrance)
    incident = rotate_keys.plan(
        person=person, keys=[rotation.key], trigger=Trigger.INCIDENT, reason=reason
    )
    found = requests.preview(incident, person, now=now)
    if found.refusal:
        raise services.Denied(found.refusal)
    if found.deciders is not None and found.deciders.auto == Auto.APPROVE:
        deciding.hurry(person=person, rotation_id=rotation_id, reason=reason, now=now)
        return None
    for waiting in many_keys.asked(rotation.key_id):
        is_incident = waiting.payload.get("trigger") == Trigger.INCIDENT
        if is_incident and _is_seen(person, waiting):
            raise about_keys.AlreadyAsked("An incident has been asked already.", waiting.pk)
    return rotate_keys.ask(person=person, action=incident, now=now)


def _is_seen(person: User, request: Request) -> bool:
    """Say whether a person may see a request; that of others may concern keys that are hidden."""
    try:
        requests.access_request(person, request.pk)
    except NotVisible:
        return False
    return True
