"""Gather what is known of a rotation at one moment, as the state machine wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connection
from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now

from approvals import queue
from keyvault.connections import places
from keyvault.connections import selectors as connections
from keyvault.dependents import selectors as dependents
from keyvault.dependents.models import Health, Probe
from keyvault.inventory.models import DeliveryMode, Key, KeyState
from keyvault.rotation import evidence, services
from keyvault.rotation.evidence import Proof
from keyvault.rotation.models import Delivery, DeliveryState, Rotation
from keyvault.rotation.saga import Old, Part, Progress, Seen, State
from keyvault.rotation.wellbeing import names_other, with_health
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from keyvault.vault.models import Version


@dataclass(frozen=True, slots=True)
class Sight:
    """A rotation with its versions and dependents, and what the machine is told of them.

    `heard` and `proofs` are by the dependent's id.
    """

    rotation: Rotation
    old: Version | None
    new: Version | None
    deliveries: Sequence[Delivery]
    heard: Mapping[UUID, Probe]
    proofs: Mapping[UUID, Proof]
    seen: Seen


def look(rotation_id: UUID) -> Sight:
    """Return what is known of a rotation now, by the database's clock."""
    rotation = Rotation.objects.select_related("key__connection", "key__owner").get(pk=rotation_id)
    old, new = _version(rotation.old_id), _version(rotation.new_id)
    deliveries = list(
        rotation.deliveries.select_related("dependent__agent", "dependent__connection")
    )
    heard = evidence.heard(deliveries)
    proofs = evidence.proofs(rotation, deliveries, heard)
    seen = _seen(rotation, old, new, deliveries=deliveries, heard=heard, proofs=proofs)
    return Sight(rotation, old, new, deliveries, heard, proofs, _with_brownout(seen, rotation, old))


def where_held(rotation_id: UUID) -> Seen:
    """Return what is known of a held rotation, as of the state in which it was held."""
    found = look(rotation_id)
    return replace(found.seen, state=State(found.rotation.held_from))


def _version(version_id: UUID | None) -> Version | None:
    return versions.version(version_id) if version_id else None


def _seen(
    rotation: Rotation,
    old: Version | None,
    new: Version | None,
    *,
    deliveries: Sequence[Delivery],
    heard: Mapping[UUID, Probe],
    proofs: Mapping[UUID, Proof],
) -> Seen:
    since_s, quiet_s, browned_s = _ages(rotation)
    number, since = new.number if new else None, rotation.since
    states = [progress(one, number, proofs, heard, since=since) for one in deliveries]
    return Seen(
        state=State(rotation.state),
        terms=services.terms_of(rotation),
        wave=rotation.wave,
        parts=[
            Part(one.wave, Progress(state), one.has_new)
            for one, state in zip(deliveries, states, strict=True)
        ],
        since_s=since_s,
        old=Old(rotation.old_verdict),
        silent_s=quiet_s if is_observable(rotation.key, old, deliveries) else None,
        key_lives=rotation.key.state != KeyState.REVOKED,
        is_promoted=new is not None and new.is_current,
        wants_back=rotation.wants_back,
        may_go_on=rotation.may_go_on,
        is_being_written=is_being_written(rotation),
        is_back=not any(_has_loaded(one, number, proofs, heard, since=since) for one in deliveries),
        settling_s=_settling_s(rotation, deliveries),
        browned_s=browned_s,
        misses=rotation.misses,
    )


def _with_brownout(seen: Seen, rotation: Rotation, old: Version | None) -> Seen:
    """Add whether the old version can be switched off, and may be by now."""
    where = rotation.key.connection
    found = connections.capabilities(where)
    can = found is not None and found.can_suspend
    return replace(
        seen,
        can_suspend=can and old is not None and places.is_within_reach(old, where),
        is_suspended=old is not None and old.suspended_at is not None and not old.has_ended,
    )


def progress(
    delivery: Delivery,
    number: int | None,
    proofs: Mapping[UUID, Proof],
    heard: Mapping[UUID, Probe],
    *,
    since: datetime,
) -> DeliveryState:
    """Return how far a dependent is, by its newest proof and by what its address says.

    number: the new version's. since: when the rotation came to where it is.
    """
    found = _by_proof(delivery, number, proofs, since)
    probe = heard.get(delivery.dependent_id)
    return with_health(found, delivery, probe, number=number, since=since)


def _by_proof(
    delivery: Delivery, number: int | None, proofs: Mapping[UUID, Proof], since: datetime
) -> DeliveryState:
    state = DeliveryState(delivery.state)
    if state in {DeliveryState.EXCUSED, DeliveryState.WAITING} or number is None:
        return state
    if delivery.dependent.health in {Health.BY_HAND, Health.PUSHED}:
        return state
    proof = proofs.get(delivery.dependent_id)
    if proof is None or proof.number != number:
        return DeliveryState.RESTARTING
    if proof.is_healthy:
        return DeliveryState.CONFIRMED
    # Who was ill before a person gave it more time has another chance to say how it is.
    return DeliveryState.FAILED if proof.at > since else DeliveryState.RESTARTING


def is_observable(key: Key, old: Version | None, deliveries: Sequence[Delivery]) -> bool:
    """Say whether use of an old version shows: the provider tells, or all of them fetch it by API.

    An adopted value was handed round before keyvault had it, so that nobody fetching it
    proves nothing; the provider tells only of what it can be asked about by its id.
    """
    found = connections.capabilities(key.connection)
    tells = found is not None and found.reports_last_use
    if old is not None and old.adopted_at is not None:
        return tells and not old.is_nameless
    is_written = any(dependents.is_written(one.dependent) for one in deliveries)
    return tells or (key.delivery_mode == DeliveryMode.PULL and not is_written)


def is_being_written(rotation: Rotation) -> bool:
    """Say whether a job of its own is just writing the old version to a place, or taking it away."""
    if rotation.state != State.PLANNED:
        return False
    jobs = [
        queue.newest(kind=kind, subject_id=place)
        for place in dependents.being_written(rotation.key_id)
        for kind in (services.DELIVER, services.REMOVE)
    ]
    return any(job and job[0] in {"ready", "running"} for job in jobs)


def _ages(rotation: Rotation) -> tuple[float, float, float | None]:
    """Return the seconds in this state, of silence, and of the brown-out, by the database's clock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM now() - since)::float8,"
            " coalesce(extract(epoch FROM now() - quiet_since)::float8, 0),"
            " extract(epoch FROM now() - brownout_at)::float8"
            " FROM keyvault_rotation WHERE id = %s",
            [rotation.pk],
        )
        since_s, quiet_s, browned_s = cursor.fetchone()
    return since_s, quiet_s, browned_s


def _settling_s(rotation: Rotation, deliveries: Sequence[Delivery]) -> float:
    """Return the longest that a place's readers may lag behind what was written there last."""
    ago = ExpressionWrapper(Now() - F("given_at"), output_field=DurationField())
    since: dict[int, timedelta] = dict(
        rotation.deliveries.filter(given_at__isnull=False).values_list("pk", ago)
    )
    left = [
        dependents.lag_s(one.dependent) - since[one.pk].total_seconds()
        for one in deliveries
        if one.pk in since and one.dependent.health == Health.PUSHED
    ]
    return max(left, default=0.0)


def _has_loaded(
    delivery: Delivery,
    number: int | None,
    proofs: Mapping[UUID, Proof],
    heard: Mapping[UUID, Probe],
    *,
    since: datetime,
) -> bool:
    """Say whether a dependent may have the new version, while the rotation goes back."""
    if delivery.dependent.health == Health.BY_HAND:
        return delivery.confirmed_at is not None
    if delivery.dependent.health == Health.PUSHED:
        # The old version was written there again, and it is not known yet how that went.
        return delivery.state == DeliveryState.RESTARTING
    if delivery.dependent.health == Health.PROBED:
        # What it named before it was led back says nothing of now.
        is_moved = delivery.given_at is not None and delivery.state != DeliveryState.EXCUSED
        return is_moved and not names_other(heard.get(delivery.dependent_id), number, after=since)
    proof = proofs.get(delivery.dependent_id)
    return number is not None and proof is not None and proof.number == number
