"""Register who uses a key, and end a registration. Inner writers: the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from approvals.ports import Actor, Subject
from keyvault.audit import ledger
from keyvault.dependents.models import Dependent, Health
from keyvault.inventory.models import DeliveryMode, Key

BY_HAND_NAME = "Its owner, by hand"


class NameTaken(ValueError):
    """Another dependent of this key has the name, or the agent is one already."""


def register(
    *,
    key: Key,
    name: str,
    health: str,
    now: datetime,
    actor: Actor,
    agent_id: UUID | None = None,
    wave: int = 0,
    cache_s: int = 0,
    is_discovered: bool = False,
) -> Dependent:
    """Register one user of a key; the caller holds the key's row lock. Raises NameTaken."""
    alive = Dependent.objects.filter(key=key, ended_at=None)
    if alive.filter(name=name).exists() or (agent_id and alive.filter(agent_id=agent_id).exists()):
        raise NameTaken(f"{name} is a dependent of {key.name} already.")
    found = Dependent.objects.create(
        key=key,
        agent_id=agent_id,
        name=name,
        health=health,
        wave=wave,
        cache_s=cache_s,
        is_discovered=is_discovered,
        created_at=now,
    )
    _record("dependent.registered", found, actor, now)
    return found


def end(*, dependent: Dependent, now: datetime, actor: Actor) -> None:
    """End a registration; what it did stays readable. Idempotent."""
    if Dependent.objects.filter(pk=dependent.pk, ended_at=None).update(ended_at=now):
        _record("dependent.ended", dependent, actor, now)


def complete(
    *, key: Key, users: Mapping[UUID, str], now: datetime, actor: Actor
) -> list[Dependent]:
    """Return all dependents of a key, after registering what was seen and nobody had registered.

    users: the agents that were seen using it, with their names. A key whose value
    is read by hand has a person among its dependents, because no program can say
    that the person has the new value. The caller holds the key's row lock.
    """
    alive = list(Dependent.objects.filter(key=key, ended_at=None).select_related("agent"))
    known = {row.agent_id for row in alive}
    names = {row.name for row in alive}
    for agent_id, name in users.items():
        if agent_id not in known:
            shown = name if name not in names else f"{name} ({agent_id})"
            alive.append(
                register(
                    key=key,
                    name=shown,
                    agent_id=agent_id,
                    health=Health.READS,
                    is_discovered=True,
                    now=now,
                    actor=actor,
                )
            )
    if key.delivery_mode == DeliveryMode.REVEAL and not any(row.agent_id is None for row in alive):
        hand = register(key=key, name=BY_HAND_NAME, health=Health.BY_HAND, now=now, actor=actor)
        alive.append(hand)
    return alive


def _record(event: str, row: Dependent, actor: Actor, now: datetime) -> None:
    ledger.record(
        event,
        actor=actor,
        subject=Subject("key", str(row.key_id), row.key.name),
        now=now,
        fields={"dependent": row.name, "wave": row.wave, "health": str(row.health)},
    )
