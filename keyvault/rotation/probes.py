"""The part of a rotation at addresses that say how a dependent is: ask before the move, and after it.

Few are asked at one look, none more than once a second, all of them outside of
transactions and within some seconds. Whoever is about to be moved is asked before,
however many they are: who was well then can be told from who was ill anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from keyvault.dependents import probes, probing
from keyvault.dependents.models import Answer, Health
from keyvault.rotation.models import Delivery, DeliveryState, Rotation
from keyvault.rotation.saga import State
from keyvault.rotation.states import Cause

if TYPE_CHECKING:
    from keyvault.connections.calls import Errand
    from keyvault.dependents.models import Probe
    from keyvault.rotation.sight import Sight

_ASKED_IN = frozenset({State.PROMOTING, State.DRAINING, State.BROWNOUT})
# Who is late in a held rotation is looked after by the clock, less often.
HELD_EVERY = timedelta(minutes=1)


def ask(sight: Sight, errand: Errand) -> bool:
    """Ask those who are due, and write down what they say; say whether anybody was asked.

    Raises LostClaim.
    """
    rotation = sight.rotation
    parts = {one.dependent_id: one for one in sight.deliveries if _is_asked(one, rotation)}
    was_asked = False
    while due := probes.due(parts):
        _ask(due, parts, rotation, errand)
        was_asked = True
        asked = {probe.dependent_id for probe in due}
        parts = {
            dependent_id: one
            for dependent_id, one in parts.items()
            if one.state == DeliveryState.WAITING and dependent_id not in asked
        }
    return was_asked


def _ask(
    due: Sequence[Probe], parts: Mapping[UUID, Delivery], rotation: Rotation, errand: Errand
) -> None:
    answers = probing.ask(due, rotation.key.name)
    with errand.writing():
        for probe, heard in zip(due, answers, strict=True):
            probes.note(probe, heard)
            before = Delivery.objects.filter(pk=parts[probe.dependent_id].pk, was_healthy=None)
            before.filter(state=DeliveryState.WAITING).update(
                was_healthy=heard.answer == Answer.HEALTHY
            )


def is_to_be_asked(rotation: Rotation) -> bool:
    """Say whether a rotation that is held for somebody late has anybody to ask again now."""
    return bool(probes.due(_late(rotation), every=HELD_EVERY))


def goes_on_asking(rotation: Rotation) -> bool:
    """Say whether a rotation that is held for somebody late has anybody to ask, now or later."""
    return bool(probes.of_dependents(_late(rotation)))


def _late(rotation: Rotation) -> list[UUID]:
    if rotation.cause != Cause.UNCONFIRMED:
        return []
    rows = rotation.deliveries.select_related("dependent")
    return [one.dependent_id for one in rows if _is_asked(one, rotation)]


def _is_asked(delivery: Delivery, rotation: Rotation) -> bool:
    """Say whether a dependent is asked now: before it moves, after it, or until it is back."""
    state = State(rotation.held_from or rotation.state)
    if delivery.state == DeliveryState.EXCUSED or delivery.wave > rotation.wave:
        return False
    if state is State.ROLLING_BACK:
        return delivery.dependent.health == Health.PROBED and delivery.given_at is not None
    if delivery.state == DeliveryState.WAITING:
        return state is State.PROMOTING and delivery.was_healthy is None
    return state in _ASKED_IN
