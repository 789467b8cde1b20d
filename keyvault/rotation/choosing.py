"""What people choose for a rotation: back, more time, on, and the word for what no program watches.

Each act is written with its ledger line, and the job looks at once. Who may is
asked in `deciding`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from approvals.ports import Actor, NotVisible
from keyvault.inventory import services as inventory
from keyvault.rotation import hurrying, saga
from keyvault.rotation.models import ENDED, Delivery, DeliveryState, Rotation
from keyvault.rotation.saga import State
from keyvault.rotation.services import WrongMoment, enter, record, ring


def roll_back(*, rotation_id: UUID, reason: str, actor: Actor, now: datetime) -> None:
    """Have everybody led back to the old version, if it still works when it is tried. Outermost.

    Raises WrongMoment, NotVisible.
    """
    with transaction.atomic(durable=True):
        rotation = _locked(rotation_id)
        where = rotation.held_from or rotation.state
        if where not in saga.REVERSIBLE or rotation.old_verdict == saga.Old.INVALID:
            raise WrongMoment(_too_late(rotation))
        fields = {"choice": str(saga.Choice.ROLL_BACK), "reason": reason}
        record("rotation.chosen", rotation, actor, now, fields)
        if rotation.state == State.HELD:
            _resume(rotation, actor, now)
        # What was tried hours ago says nothing of now, and what was approved to go on
        # whatever is seen is no word for ending the new version over those who use it.
        Rotation.objects.filter(pk=rotation.pk).update(
            wants_back=True, may_go_on=False, old_verdict=saga.Old.UNTRIED
        )


def extend(*, rotation_id: UUID, reason: str, actor: Actor, now: datetime) -> None:
    """Give a held rotation its grace once more, from where it was. Outermost. Raises WrongMoment."""
    with transaction.atomic(durable=True):
        rotation = _locked(rotation_id)
        if rotation.state != State.HELD:
            raise WrongMoment(f"This rotation is {rotation.get_state_display().lower()}, not held.")
        fields = {"choice": str(saga.Choice.EXTEND), "reason": reason}
        record("rotation.chosen", rotation, actor, now, fields)
        _resume(rotation, actor, now, old_verdict=saga.Old.UNTRIED)
        _write_anew(rotation, actor, now)


def hurry(*, rotation_id: UUID, reason: str, actor: Actor, now: datetime) -> None:
    """Have a rotation wait no longer than one of an incident. Outermost. Raises WrongMoment, NotVisible."""
    with transaction.atomic(durable=True):
        rotation = _locked(rotation_id)
        if hindrance := hurrying.hindrance(rotation):
            raise WrongMoment(hindrance)
        hurrying.hurry(rotation=rotation, reason=reason, actor=actor, now=now)


def go_on(*, rotation_id: UUID, actor: Actor, now: datetime, request_id: UUID) -> None:
    """Let a held rotation go on whatever is seen, as approved; inside the caller's transaction.

    Raises WrongMoment, NotVisible.
    """
    rotation = _locked(rotation_id)
    if rotation.may_go_on and rotation.state != State.HELD:
        return
    if rotation.state != State.HELD:
        raise WrongMoment(f"This rotation is {rotation.get_state_display().lower()}, not held.")
    fields = {"choice": str(saga.Choice.GO_ON), "reason": str(request_id)}
    record("rotation.chosen", rotation, actor, now, fields)
    _resume(rotation, actor, now, may_go_on=True)


def confirm(*, delivery_id: int, actor: Actor, now: datetime) -> None:
    """Note that a person has moved a dependent that no program can watch. Outermost.

    While a rotation goes back, the same act says that it is back on the old
    version. Raises WrongMoment, NotVisible.
    """
    with transaction.atomic(durable=True):
        delivery, rotation = _delivery(delivery_id)
        is_back = rotation.state == State.ROLLING_BACK
        if not is_back and not delivery.has_new:
            raise WrongMoment("It has not been given the new version yet.")
        state = DeliveryState.EXCUSED if is_back else DeliveryState.CONFIRMED
        Delivery.objects.filter(pk=delivery.pk).update(
            state=state, confirmed_at=None if is_back else now, confirmed_by=actor.label
        )
        fields = {"dependent": delivery.dependent.name, "state": str(state), "note": ""}
        record("rotation.delivered", rotation, actor, now, fields)


def excuse(
    *,
    delivery_id: int,
    reason: str,
    actor: Actor,
    now: datetime,
    admit: Callable[[], object] = lambda: None,
) -> None:
    """Go on without waiting for one dependent, for a reason that is kept. Outermost.

    `admit` runs first in the transaction and uses up the proof of a fresh factor.
    Raises WrongMoment, NotVisible, and what `admit` raises.
    """
    with transaction.atomic(durable=True):
        admit()
        delivery, rotation = _delivery(delivery_id)
        if rotation.goes_back:
            raise WrongMoment(
                "This rotation goes back, and ends no version that somebody still has. "
                "Give it more time, or ask to go on without proof."
            )
        Delivery.objects.filter(pk=delivery.pk).update(
            state=DeliveryState.EXCUSED, note=reason, confirmed_by=actor.label
        )
        fields = {"dependent": delivery.dependent.name, "state": "excused", "note": reason}
        record("rotation.delivered", rotation, actor, now, fields)


def _write_anew(rotation: Rotation, actor: Actor, now: datetime) -> None:
    """Have the places written again that do not show their version: they may have been mended."""
    rows = rotation.deliveries.filter(dependent__connection__isnull=False)
    change: dict[str, Any]
    if rotation.state == State.PROMOTING:
        is_foreign = Q(state=DeliveryState.FAILED, has_new=False)
        rows = rows.filter(is_foreign | Q(state=DeliveryState.RESTARTING), wave=rotation.wave)
        change = {"state": DeliveryState.WAITING, "note": ""}
    elif rotation.state == State.ROLLING_BACK:
        rows = rows.filter(state=DeliveryState.RESTARTING, given_at__isnull=False)
        # It may still have it, and is led back once more.
        change = {"state": DeliveryState.RESTARTING, "note": "", "has_new": True}
    else:
        return
    for delivery in rows.select_related("dependent"):
        Delivery.objects.filter(pk=delivery.pk).update(**change)
        fields = {"dependent": delivery.dependent.name, "state": str(change["state"]), "note": ""}
        record("rotation.delivered", rotation, actor, now, fields)


def _resume(rotation: Rotation, actor: Actor, now: datetime, **facts: Any) -> None:  # noqa: ANN401
    enter(rotation, State(rotation.held_from), now=now, actor=actor, **facts)


def _locked(rotation_id: UUID) -> Rotation:
    """Have the job look as soon as this commits, and lock what is decided about.

    First the job, then the key, then the rotation: the order of the worker, who
    fences by its job before it writes. Raises NotVisible.
    """
    found = Rotation.objects.filter(pk=rotation_id).values_list("key_id", flat=True).first()
    if found is None:
        raise NotVisible(f"rotation {rotation_id}")
    ring(rotation_id)
    inventory.lock(key_id=found)
    return (
        Rotation.objects.select_related("key").select_for_update(of=("self",)).get(pk=rotation_id)
    )


def _delivery(delivery_id: int) -> tuple[Delivery, Rotation]:
    found = Delivery.objects.filter(pk=delivery_id).values_list("rotation_id", flat=True).first()
    if found is None:
        raise NotVisible(f"delivery {delivery_id}")
    rotation = _locked(found)
    if rotation.state in ENDED:
        raise WrongMoment("This rotation is over.")
    return Delivery.objects.select_related("dependent").get(pk=delivery_id), rotation


def _too_late(rotation: Rotation) -> str:
    state = rotation.get_state_display().lower()
    if rotation.old_verdict == saga.Old.INVALID:
        return "The old version no longer works at the provider, so there is nothing to go back to."
    return f"This rotation is {state}: the old version may be ended already."
