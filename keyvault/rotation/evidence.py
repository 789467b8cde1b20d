"""What proves where a dependent stands: its own reads, reports and answers, never anybody else's word.

A read is proof because the gateway wrote it down before it answered; a report
because only the agent's own token can make it; an answer because it comes from
the address that was approved for it. None says that the old version is silent
at the provider: that is asked there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from keyvault.audit.reads import selectors as reads
from keyvault.dependents import probes
from keyvault.dependents.models import Health, Probe
from keyvault.rotation.models import Delivery, Rotation
from keyvault.usage import loaded


@dataclass(frozen=True, slots=True)
class Proof:
    """The newest that is known of one dependent: the version it has, since when, and if it is well."""

    number: int
    at: datetime
    is_healthy: bool = True


def heard(deliveries: Sequence[Delivery]) -> dict[UUID, Probe]:
    """Return what is asked of the dependents over HTTP and what they said, by the dependent's id."""
    return probes.of_dependents([one.dependent_id for one in deliveries])


def proofs(
    rotation: Rotation, deliveries: Sequence[Delivery], asked: Mapping[UUID, Probe]
) -> dict[UUID, Proof]:
    """Return the newest proof of the version of each dependent, by the dependent's id.

    asked: what `heard` returns.
    """
    read = reads.last_of(
        rotation.key_id, _agents(deliveries, Health.READS), since=rotation.created_at
    )
    # Who reports has not loaded what it only fetched, so its reads prove nothing.
    said = loaded.newest(rotation.key_id, _agents(deliveries, Health.REPORTS))
    by_agent = {agent_id: Proof(one.number, one.at) for agent_id, one in read.items()} | {
        agent_id: Proof(one.number, one.last_at, is_healthy=one.is_healthy)
        for agent_id, one in said.items()
        if one.last_at >= rotation.created_at
    }
    found = {}
    for one in deliveries:
        agent_id, probe = one.dependent.agent_id, asked.get(one.dependent_id)
        if one.dependent.health == Health.PROBED:
            if probe and probe.number and probe.named_at and probe.named_at >= rotation.created_at:
                found[one.dependent_id] = Proof(probe.number, probe.named_at)
        elif agent_id in by_agent:
            found[one.dependent_id] = by_agent[agent_id]
    return found


def last_read(rotation: Rotation, agent_ids: Collection[UUID], *, number: int) -> frozenset[UUID]:
    """Return those of some agents that have fetched this version, and none since, in a rotation."""
    found = reads.last_of(rotation.key_id, list(agent_ids), since=rotation.created_at)
    return frozenset(agent_id for agent_id, one in found.items() if one.number == number)


def readers_of_old(
    rotation: Rotation, number: int, deliveries: Sequence[Delivery], *, since: datetime
) -> frozenset[UUID]:
    """Return the agents among the dependents that have read the old version since a moment."""
    readers = _agents(deliveries, *Health.values)
    return frozenset(reads.last_of(rotation.key_id, readers, since=since, number=number))


def reads_of_old(
    rotation: Rotation, number: int, deliveries: Sequence[Delivery], *, since: datetime
) -> datetime | None:
    """Return when the old version was last read from a gateway since a moment, or None."""
    readers = _agents(deliveries, *Health.values)
    found = reads.last_of(rotation.key_id, readers, since=since, number=number)
    return max((read.at for read in found.values()), default=None)


def _agents(deliveries: Sequence[Delivery], *kinds: str) -> list[UUID]:
    return [
        one.dependent.agent_id
        for one in deliveries
        if one.dependent.agent_id and one.dependent.health in kinds
    ]
