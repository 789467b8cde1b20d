"""The part of a rotation at places that keyvault writes to: stage, promote, verify, lead back.

One place that fails does not keep the others of its wave from being written;
the failure is raised when all have been tried.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from django.db.models.functions import Now

from approvals.ports import NeedsPerson, Unfinished
from keyvault.connections.calls import Errand
from keyvault.dependents import pushing
from keyvault.dependents import services as dependents
from keyvault.dependents.pushing import Foreign
from keyvault.destinations.base import State as Health
from keyvault.rotation import holding, services
from keyvault.rotation.models import Delivery, DeliveryState
from keyvault.rotation.saga import State
from keyvault.rotation.sight import Sight
from keyvault.rotation.wellbeing import with_health

if TYPE_CHECKING:
    from keyvault.vault.models import Version

_ASKED_IN = frozenset({State.PROMOTING, State.DRAINING, State.BROWNOUT})
_NOT_WRITTEN = (DeliveryState.WAITING, DeliveryState.WRITING)
_NOT_PROVED = (DeliveryState.RESTARTING, DeliveryState.FAILED)
_MEANS = {
    Health.OK: DeliveryState.CONFIRMED,
    Health.PENDING: DeliveryState.RESTARTING,
    Health.BAD: DeliveryState.FAILED,
}


def stage(sight: Sight, errand: Errand) -> None:
    """Lay the new version beside the live one at every place, before anything moves.

    Not where it was skipped: a place that is gone for good would let no rotation begin.
    Raises Unfinished, NeedsPerson, LostClaim.
    """
    version, rows = _the(sight.new), _pushed(sight, _NOT_WRITTEN)
    _each(rows, errand, lambda one: pushing.stage(one.dependent, version, errand))


def promote(sight: Sight, errand: Errand) -> None:
    """Make the new version live at the places of this wave that do not have it. Idempotent.

    A foreign value stays, and is a failure of the place. Raises Unfinished, NeedsPerson, LostClaim.
    """
    version, wave = _the(sight.new), sight.rotation.wave
    rows = [one for one in _pushed(sight, _NOT_WRITTEN) if one.wave == wave]

    def give(one: Delivery) -> None:
        # It may have the new version as soon as the call begins.
        with errand.writing():
            is_wanted = services.note(
                one,
                DeliveryState.WRITING,
                rotation=sight.rotation,
                now=errand.now,
                has_new=True,
                given_at=Now(),
            )
        # Who was skipped while another place was written is not led back either.
        if is_wanted:
            _write(one, version, sight, errand, has_new=True)

    _each(rows, errand, give)


def lead_back(sight: Sight, errand: Errand) -> None:
    """Make the old version live again wherever the new one was written. Idempotent.

    Raises Unfinished, NeedsPerson, LostClaim.
    """
    version = _the(sight.old)
    rows = [one for one in _pushed(sight) if one.has_new]
    _each(rows, errand, lambda one: _write(one, version, sight, errand, has_new=False))


def verify(sight: Sight, errand: Errand) -> bool:
    """Ask the places that are not known to be well with their version; say whether any was asked.

    Raises Unfinished, NeedsPerson, LostClaim.
    """
    is_back = sight.rotation.state == State.ROLLING_BACK
    rows = _back(sight) if is_back else unproved(sight)
    wanted = sight.old if is_back else sight.new
    _each(rows, errand, lambda one: _ask(one, _the(wanted), sight, errand))
    return bool(rows)


def unproved(sight: Sight) -> list[Delivery]:
    """Return the places that have the new version and are not known to be well with it.

    A roll-out that is held because somebody was late goes on when they are.
    """
    is_late = holding.may_end_by_itself(sight.rotation.held_from, sight.rotation.cause)
    if sight.rotation.state not in _ASKED_IN and not is_late:
        return []
    return [one for one in _pushed(sight, _NOT_PROVED) if one.has_new]


def _back(sight: Sight) -> list[Delivery]:
    return [one for one in _pushed(sight, (DeliveryState.RESTARTING,)) if not one.has_new]


def are_all_there(sight: Sight, errand: Errand) -> bool:
    """Ask every place once more before a version ends, and note who does not have the other one.

    Raises Unfinished, NeedsPerson, LostClaim.
    """
    is_back = sight.rotation.state == State.ROLLING_BACK
    wanted = sight.old if is_back else sight.new
    rows = _pushed(sight, (DeliveryState.CONFIRMED,))
    found: list[Health] = []
    # Whoever was given nothing on the way on has nothing to lose on the way back.
    rows = [one for one in rows if one.given_at is not None or not is_back]
    _each(rows, errand, lambda one: found.append(_ask(one, _the(wanted), sight, errand)))
    return all(state is Health.OK for state in found)


def tidy(sight: Sight, keep: Version | None, errand: Errand) -> None:
    """Remove what was staged. What stays is no credential of worth, so it stops nothing. Raises LostClaim."""
    if keep is None:
        return
    for one in _pushed(sight):
        errand.run.fence()
        try:
            pushing.cleanup(one.dependent, keep, errand)
        except Unfinished as stop:
            text = f"What was staged could not be removed. {stop.sentence}"
            with errand.writing():
                dependents.note_left(one.dependent, note=text)


def _write(one: Delivery, version: Version, sight: Sight, errand: Errand, **facts: object) -> None:
    """Write a version to one place; a foreign value there stays, and is a failure of the place."""
    state, text = DeliveryState.RESTARTING, ""
    facts["given_at"] = Now()
    try:
        pushing.promote(one.dependent, version, errand)
    except Foreign as stop:
        state, text, facts = DeliveryState.FAILED, stop.sentence, {"has_new": False}
    with errand.writing():
        services.note(one, state, rotation=sight.rotation, now=errand.now, text=text, **facts)


def _ask(one: Delivery, version: Version, sight: Sight, errand: Errand) -> Health:
    """Read one place, and write down what is new of it."""
    found = pushing.verify(one.dependent, version, errand)
    state = with_health(
        _MEANS[found.state],
        one,
        sight.heard.get(one.dependent_id),
        number=version.number,
        since=sight.rotation.since,
    )
    if (state, found.reason) != (one.state, one.note):
        with errand.writing():
            services.note(one, state, rotation=sight.rotation, now=errand.now, text=found.reason)
    return found.state


def _pushed(sight: Sight, states: Collection[str] = DeliveryState.values) -> list[Delivery]:
    return [one for one in sight.deliveries if one.dependent.connection_id and one.state in states]


def _each(rows: Iterable[Delivery], errand: Errand, act: Callable[[Delivery], object]) -> None:
    """Do something for each, then raise the first failure with the name of whom it befell.

    The claim is renewed before each: the calls of all may take longer than it holds.
    """
    first: Unfinished | None = None
    for one in rows:
        errand.run.fence()
        try:
            act(one)
        except Unfinished as stop:
            kind = NeedsPerson if isinstance(stop, NeedsPerson) else Unfinished
            first = first or kind(stop.code, f"{one.dependent.name}: {stop.sentence}")
    if first is not None:
        raise first


def _the(version: Version | None) -> Version:
    if version is None:
        raise ValueError("A rotation that writes to places has both versions.")
    return version
