"""Who uses a key: read the list, or replace it by one that is kept as code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal, Self
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Router
from pydantic import Field

from keyvault.agents import reach
from keyvault.api import pages, schemas
from keyvault.api.keys import key_of
from keyvault.api.principals import Principal, caller
from keyvault.api.problems import Fault, Problem
from keyvault.api.rotations import may_rotate
from keyvault.dependents import declared, probes, selectors
from keyvault.dependents.declared import Declared
from keyvault.inventory import naming

if TYPE_CHECKING:
    from keyvault.dependents.models import Dependent as Row
    from keyvault.dependents.models import Probe as Asked

router = Router(tags=["dependents"])
MOST = 90
MOST_WAVE, MOST_CACHE_S = 100, 2_592_000
WITHOUT_AGENT = ("by_hand", "probed")


class Probe(schemas.Out):
    """What keyvault asks of a dependent over HTTP: where, and the newest answer.

    `answer`: healthy, bad, none (no usable one) or refused (not let out); empty before the first.
    `version`: the one that it last named.
    """

    address: str
    answer: str
    version: int | None
    asked_at: datetime | None


class Dependent(schemas.Out):
    """One user of a key. `is_discovered`: it was seen using the key and nobody has registered it.

    `connection` and `target` name a place that keyvault writes to; `push` says how that went.
    """

    name: str
    agent: str | None
    health: str
    wave: int
    cache_s: int
    is_discovered: bool
    created_at: datetime
    connection: str | None
    target: dict[str, str]
    push: str
    probe: Probe | None


class DependentList(schemas.Out):
    """Everybody who is known to use a key, wave by wave; an agent is told of itself alone."""

    items: list[Dependent]


class DeclaredDependent(schemas.In):
    """One user of a key as it shall be. `health`: how it is known that it has a version."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    agent: Annotated[str, Field(max_length=naming.NAME_MAX)] = ""
    health: Literal["reads", "reports", "by_hand", "probed"]
    wave: Annotated[int, Field(ge=0, le=MOST_WAVE)] = 0
    cache_s: Annotated[int, Field(ge=0, le=MOST_CACHE_S)] = 0


class DeclaredList(schemas.In):
    """The whole list: who is not in it is a registered user no more."""

    dependents: Annotated[list[DeclaredDependent], Field(max_length=MOST)]


class _Settled(schemas.Out):
    """What of a list somebody has declared: how far a write to a place is changes by itself."""

    rows: list[tuple[str, str | None, str, int, int, bool]]

    @classmethod
    def of(cls, found: DependentList) -> Self:
        """Return it; places are no part of what is declared here."""
        own = [row for row in found.items if row.connection is None]
        return cls(
            rows=[
                (row.name, row.agent, row.health, row.wave, row.cache_s, row.is_discovered)
                for row in own
            ]
        )


@router.get("/keys/{str:name}/dependents", response=DependentList, operation_id="listDependents")
def list_dependents(request: HttpRequest, name: str) -> HttpResponse:
    """List who uses a key, with an ETag."""
    principal = caller(request)
    row = key_of(principal, name, now=timezone.now())
    found = _listed(row.pk, agent_id=principal.agent_id)
    return pages.tagged(request, found, settled=_Settled.of(found))


@router.put("/keys/{str:name}/dependents", response=DependentList, operation_id="replaceDependents")
def replace_dependents(request: HttpRequest, name: str, body: DeclaredList) -> HttpResponse:
    """Replace the list of who uses a key. People only, who may have the key rotated.

    With `If-Match` only while those who are declared are the ones that were read.

    Places that keyvault writes to are no part of it: ask for them as requests.

    A rotation that runs goes on with those that it began with. Who is left out
    and is seen using the key is registered again by its next rotation.
    """
    principal, now = caller(request), timezone.now()
    actor = principal.actor
    row = key_of(principal, name, now=now)
    if principal.agent is not None:
        raise Problem("people-only")
    if not may_rotate(principal, row):
        raise Problem("forbidden", f"You may not have {row.name} rotated.")
    wanted = _wanted(body, _agents(principal, row.pk, body))
    rows = declared.replace(
        key_id=row.pk,
        wanted=wanted,
        actor=actor,
        now=now,
        require=lambda: pages.require(request, _Settled.of(_listed(row.pk, agent_id=None))),
    )
    # As they were under the lock: the ETag of what others have declared since would let it be written over.
    made = _list(rows)
    return pages.told(made, settled=_Settled.of(made))


def _listed(key_id: UUID, *, agent_id: UUID | None) -> DependentList:
    return _list([row for row in selectors.of_key(key_id) if agent_id in {None, row.agent_id}])


def _list(rows: Sequence[Row]) -> DependentList:
    asked = probes.of_dependents([row.pk for row in rows])
    return DependentList(items=[_shape(row, asked.get(row.pk)) for row in rows])


def _shape(row: Row, probe: Asked | None) -> Dependent:
    copied = ("name", "health", "wave", "cache_s", "is_discovered", "created_at", "push")
    return Dependent(
        **{name: getattr(row, name) for name in copied},
        agent=row.agent.name if row.agent else None,
        connection=row.connection.slug if row.connection else None,
        target={name: str(text) for name, text in row.target.items()},
        probe=Probe(
            address=probe.address,
            answer=probe.answer,
            version=probe.number,
            asked_at=probe.asked_at,
        )
        if probe
        else None,
    )


def _agents(principal: Principal, key_id: UUID, body: DeclaredList) -> Mapping[str, UUID]:
    """Return the agents that the caller may name: those that it sees, or that are listed already."""
    names = {one.agent for one in body.dependents if one.agent}
    seen = reach.seen_by(principal.token).filter(name__in=names)
    known = {row.agent.name: row.agent.pk for row in selectors.of_key(key_id) if row.agent}
    return known | {agent.name: agent.pk for agent in seen}


def _wanted(body: DeclaredList, agents: Mapping[str, UUID]) -> list[Declared]:
    """Return what is declared. Raises Problem with a fault for each line that cannot be."""
    faults = list(_faults(body, agents))
    if faults:
        raise Problem("invalid", errors=faults)
    return [
        Declared(
            name=one.name.strip(),
            health=one.health,
            agent_id=agents[one.agent] if one.agent else None,
            wave=one.wave,
            cache_s=one.cache_s,
        )
        for one in body.dependents
    ]


def _faults(body: DeclaredList, agents: Mapping[str, UUID]) -> Iterator[Fault]:
    names: set[str] = set()
    taken: set[str] = set()
    for at, one in enumerate(body.dependents):
        name, place = one.name.strip(), f"/dependents/{at}"
        if not name:
            yield Fault("A dependent has a name.", f"{place}/name")
        if name in names:
            yield Fault("The name stands there twice.", f"{place}/name")
        if one.agent in taken:
            yield Fault("The agent stands there twice.", f"{place}/agent")
        if one.agent and one.agent not in agents:
            yield Fault("There is no agent of this name for you.", f"{place}/agent")
        if not one.agent and one.health not in WITHOUT_AGENT:
            yield Fault(
                "Without an agent a person says so, or it is asked: by_hand or probed.",
                f"{place}/health",
            )
        names.add(name)
        taken |= {one.agent} - {""}
