"""Write the current version of a key to a place, or take it away, apart from any rotation.

A rotation and this job never write for one key at once: what begins second
waits, because both look under the key's row lock. A rotation that finds the
job at work stays planned, and the job that finds a rotation comes again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction

from approvals import queue
from approvals.ports import Actor, Later, Run, Unfinished
from keyvault.connections import places
from keyvault.connections.calls import Errand
from keyvault.connections.models import Connection
from keyvault.dependents import pushing, selectors
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent, Push
from keyvault.inventory import services as inventory
from keyvault.inventory.models import KeyState
from keyvault.rotation import services
from keyvault.rotation.models import ENDED, Delivery, DeliveryState, Rotation
from keyvault.rotation.saga import State
from keyvault.rotation.services import DELIVER, REMOVE
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from keyvault.vault.models import Version

WRITER = Actor("system", "delivery", "Delivery")
_AGAIN_S = 5.0


def promise(dependent_id: UUID) -> None:
    """Have the current version written to a place, in the caller's transaction."""
    queue.enqueue(kind=DELIVER, subject_id=dependent_id)
    queue.hasten(kind=DELIVER, subject_id=dependent_id)


def follow(connection: Connection) -> None:
    """Have every place written anew where a Connection leads to another server since."""
    now_at = places.leads_to(connection)
    for row in selectors.places_at(connection.pk):
        if row.server and row.server != now_at:
            promise(row.pk)


def catch_up(version: Version) -> None:
    """Have the current version of a key written wherever it may be missing, once a rotation is over.

    In the caller's transaction. A place that was skipped, or never answered, has another one.
    """
    for row in selectors.places_of(version.key_id):
        if row.push != Push.THERE or row.live_id != version.pk:
            promise(row.pk)


def promise_removal(dependent_id: UUID) -> None:
    """Have our value taken away from a place and its registration ended, in the caller's transaction."""
    queue.enqueue(kind=REMOVE, subject_id=dependent_id)


@queue.handler(DELIVER)
def deliver(dependent_id: UUID, run: Run) -> None:
    """Write the key's current version to one place. Raises Later, Unfinished, NeedsPerson, LostClaim."""
    row = selectors.place(dependent_id)
    if row is None or versions.current(row.key_id) is None:
        return
    errand = Errand(row.key, row.request_id or row.pk, run, WRITER)
    _take_turn(row, errand)
    # Read only now: a rotation may have ended since the first look.
    version = versions.current(row.key_id)
    if version is None:
        return
    with _turn_by_turn():
        pushing.promote(row, version, errand)
        run.reached("delivery:written")
        found = pushing.verify(row, version, errand)
    with errand.writing():
        dependents.note_health(row, found, actor=WRITER, now=run.now)


@queue.handler(REMOVE)
def remove(dependent_id: UUID, run: Run) -> None:
    """Take our value away from one place, then end its registration. Raises as `deliver`."""
    row = selectors.place(dependent_id)
    if row is None:
        return
    errand = Errand(row.key, row.request_id or row.pk, run, WRITER)
    _take_turn(row, errand)
    with _turn_by_turn():
        pushing.remove(row, errand)
    run.reached("delivery:removed")
    with errand.writing():
        dependents.removed(dependent=row, actor=WRITER, now=run.now)
        _leave_out(row, errand)


@contextmanager
def _turn_by_turn() -> Iterator[None]:
    """Come again where the destination has too much to do at once: that is no failure of the place."""
    try:
        yield
    except Unfinished as stop:
        if stop.code == "busy":
            raise Later(_AGAIN_S) from None
        raise


def _leave_out(row: Dependent, errand: Errand) -> None:
    """Have a rotation that waits for its begin write nothing where nobody is registered any more."""
    waiting = Delivery.objects.filter(dependent=row).exclude(rotation__state__in=ENDED)
    for one in waiting.select_related("dependent", "rotation__key"):
        services.note(
            one,
            DeliveryState.EXCUSED,
            rotation=one.rotation,
            now=errand.now,
            text="Nothing is written there any more.",
        )


def _take_turn(row: Dependent, errand: Errand) -> None:
    """Note that the place is being written to, unless a rotation has it. Raises Later, LostClaim."""
    with transaction.atomic(durable=True):
        errand.run.fence()
        key = inventory.lock(key_id=row.key_id)
        rotation = Rotation.objects.filter(key=key).exclude(state__in=ENDED).first()
        if rotation is not None and key.state != KeyState.REVOKED:
            # One that has not begun waits for a try of this job that was cut off.
            is_waiting = State.PLANNED in {rotation.state, rotation.held_from}
            if not (is_waiting and row.push == Push.WRITING):
                raise Later(_AGAIN_S)
        dependents.note_turn(row)
