"""Replace the whole list of who uses a key by one that was declared: configuration as code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals.ports import Actor
from keyvault.dependents import selectors, services
from keyvault.dependents.models import Dependent
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyState


class KeyEnded(Exception):
    """The key was revoked, so nobody uses it any more."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One user of a key as somebody wants it to be. `agent_id` is None for a place looked after by hand."""

    name: str
    health: str
    agent_id: UUID | None
    wave: int
    cache_s: int


def replace(
    *,
    key_id: UUID,
    wanted: Sequence[Declared],
    actor: Actor,
    now: datetime,
    require: Callable[[], None] = lambda: None,
) -> Sequence[Dependent]:
    """Register what is new, end what is not wanted any more; outermost. Idempotent.

    Return everybody who is registered then, before others can change it again.

    What differs in anything is ended and registered anew, because a rotation that
    runs goes on with what it began with. Who is left out and is seen using the key
    is registered again by its next rotation. Places that keyvault writes to are
    no part of it: they come and go by approval. Names and agents stand in `wanted`
    once. `require` looks again once nobody else can change the list, and raises where
    it is not the one that was seen. Raises KeyEnded, NotVisible, services.NameTaken.
    """
    with transaction.atomic(durable=True):
        key = inventory.lock(key_id=key_id)
        if key.state == KeyState.REVOKED:
            raise KeyEnded(f"{key.name} was revoked.")
        require()
        _change(key, wanted, now=now, actor=actor)
        return selectors.of_key(key.pk)


def _change(key: Key, wanted: Sequence[Declared], *, now: datetime, actor: Actor) -> None:
    rows = [row for row in selectors.of_key(key.pk) if row.connection_id is None]
    known = {_of(row): row for row in rows}
    kept = known.keys() & set(wanted)
    for one, row in known.items():
        if one not in kept:
            services.end(dependent=row, now=now, actor=actor)
    for one in wanted:
        if one not in kept:
            services.register(
                key=key,
                name=one.name,
                health=one.health,
                agent_id=one.agent_id,
                wave=one.wave,
                cache_s=one.cache_s,
                now=now,
                actor=actor,
            )


def _of(row: Dependent) -> Declared | UUID:
    """Return what a row declares; one that nobody has registered declares nothing yet."""
    if row.is_discovered:
        return row.pk
    return Declared(row.name, str(row.health), row.agent_id, row.wave, row.cache_s)
