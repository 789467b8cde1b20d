"""How a rotation is told to programs: where it stands, wave by wave, and what is proved of whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.urls import reverse
from pydantic import Field

from keyvault.api import schemas
from keyvault.api.schemas import Out
from keyvault.rotation import hurrying, saga, selectors, sight
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from keyvault.rotation.evidence import Proof
    from keyvault.rotation.models import Delivery
    from keyvault.rotation.models import Rotation as Row

_DONE = frozenset({saga.Progress.CONFIRMED, saga.Progress.EXCUSED})


class Progress(Out):
    """How many dependents have moved or were excused, of how many."""

    done: int
    of: int


class Wave(Out):
    """One step of the rollout, and how far its dependents are."""

    number: int
    done: int
    of: int


class Loaded(Out):
    """The newest that is known of a dependent by its own read or report."""

    version: int
    at: datetime
    healthy: bool


class Part(Out):
    """One dependent in a rotation. `proof` is told while the rotation is open."""

    name: str
    agent: str | None
    health: str = Field(
        description="reads, reports, pushed, probed or by_hand: what proves that it has moved."
    )
    wave: int
    state: str
    has_new: bool = Field(description="It was given the new version.")
    note: str
    confirmed_by: str
    given_at: datetime | None
    confirmed_at: datetime | None
    proof: Loaded | None


class RotationLine(Out):
    """One rotation of one key."""

    id: UUID
    key: str
    request_id: UUID
    state: str
    trigger: str
    comment: str
    deploy_id: str
    started_by: str
    old_version: int | None
    new_version: int | None
    wave: int
    progress: Progress
    since: datetime = Field(description="When it entered the state.")
    cause: str
    sentence: str
    held_from: str
    created_at: datetime
    promoted_at: datetime | None
    ended_at: datetime | None
    page: str = Field(description="Where people follow it and decide about a held one.")


class Rotation(RotationLine):
    """One rotation with its waves and dependents; an agent is told of its own part alone."""

    waves: list[Wave]
    dependents: list[Part]
    choices: list[str] = Field(description="What a person may decide about a held rotation.")
    may_roll_back: bool


class RotationList(Out):
    """One page of rotations, newest first."""

    items: list[RotationLine]
    next_cursor: str | None


class Started(Out):
    """What came of a trigger. `rotation` is null until the request is approved and has run."""

    request: schemas.Request | None = Field(description="Null when it is not the caller's to see.")
    rotation: Rotation | None


_COPIED = (
    "id",
    "request_id",
    "state",
    "trigger",
    "deploy_id",
    "started_by",
    "wave",
    "since",
    "cause",
    "sentence",
    "held_from",
    "created_at",
    "promoted_at",
    "ended_at",
)


def lines(rows: Sequence[Row]) -> list[RotationLine]:
    """Return rotations as a list shows them."""
    ids = [one for row in rows for one in (row.old_id, row.new_id) if one is not None]
    numbers = {one.pk: one.number for one in versions.by_ids(ids).values()}
    return [RotationLine(**_facts(row, numbers)) for row in rows]


def rotation(row: Row, *, agent_id: UUID | None, may_choose: bool) -> Rotation:
    """Return one rotation. An agent is told of the dependents that it is itself."""
    found = sight.look(row.pk)
    numbers = {one.pk: one.number for one in (found.old, found.new) if one is not None}
    parts = [one for one in found.deliveries if agent_id in {None, one.dependent.agent_id}]
    return Rotation(
        **_facts(row, numbers),
        waves=_waves(found.deliveries),
        dependents=[_part(one, {} if row.ended_at else found.proofs) for one in parts],
        choices=sorted(map(str, selectors.choices(row))) if may_choose else [],
        may_roll_back=may_choose and row.ended_at is None and selectors.may_roll_back(row),
    )


def _facts(row: Row, numbers: Mapping[UUID, int]) -> dict[str, Any]:
    counted = Progress(done=row.done_count, of=row.delivery_count)  # type: ignore[attr-defined]
    return {name: getattr(row, name) for name in _COPIED} | {
        "key": row.key.name,
        "comment": row.reason,
        "old_version": numbers.get(row.old_id) if row.old_id else None,
        "new_version": numbers.get(row.new_id) if row.new_id else None,
        "progress": counted,
        "page": reverse("rotation", args=[row.pk]),
    }


def _waves(deliveries: Sequence[Delivery]) -> list[Wave]:
    return [
        Wave(number=number, done=sum(one.state in _DONE for one in inside), of=len(inside))
        for number in sorted({one.wave for one in deliveries})
        if (inside := [one for one in deliveries if one.wave == number])
    ]


def _part(row: Delivery, proofs: Mapping[UUID, Proof]) -> Part:
    dependent = row.dependent
    proof = proofs.get(dependent.pk)
    copied = ("wave", "state", "has_new", "note", "confirmed_by", "given_at", "confirmed_at")
    return Part(
        **{name: getattr(row, name) for name in copied},
        name=dependent.name,
        agent=dependent.agent.name if dependent.agent else None,
        health=dependent.health,
        proof=Loaded(version=proof.number, at=proof.at, healthy=proof.is_healthy)
        if proof
        else None,
    )


def way_out(running: Row, *, is_incident: bool) -> dict[str, Any]:
    """Return what the caller can do whom an open rotation stands in the way."""
    name = running.key.name
    if is_incident and hurrying.may_hurry(running):
        return {
            "title": f"Have the rotation of {name} that runs wait less",
            "method": "POST",
            "href": "/api/v1/rotations",
            "body": {"keys": [name], "reason": "incident"},
        }
    return {
        "title": f"Follow the rotation of {name} that runs",
        "method": "GET",
        "href": f"/api/v1/rotations/{running.pk}",
    }
