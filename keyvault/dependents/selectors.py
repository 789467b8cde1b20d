"""Read who uses a key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from uuid import UUID

from approvals.ports import NotVisible
from keyvault.connections import selectors as connections
from keyvault.dependents.models import Dependent, Health, Push
from keyvault.destinations.base import DestinationCapabilities


def of_key(key_id: UUID) -> Sequence[Dependent]:
    """Return the registered dependents of a key, wave by wave."""
    rows = Dependent.objects.filter(key_id=key_id, ended_at=None).select_related(
        "agent", "connection"
    )
    return list(rows.order_by("wave", "name"))


def being_written(key_id: UUID) -> set[UUID]:
    """Return the places to which a version of a key may just be on its way."""
    rows = Dependent.objects.filter(key_id=key_id, ended_at=None, push=Push.WRITING)
    return set(rows.values_list("pk", flat=True))


def is_written(row: Dependent) -> bool:
    """Say whether the value itself is written to a place, so that nobody there fetches it."""
    found = _capabilities(row)
    return row.connection_id is not None and not (found and found.consumer_fetches)


def lag_s(row: Dependent) -> int:
    """Return the seconds that whoever reads at a place, or keeps a value, may go on with an older one."""
    found = _capabilities(row)
    return max(row.cache_s, math.ceil(found.consumer_lag_s) if found else 0)


def of_any_time(key_id: UUID, dependent_id: UUID) -> Dependent:
    """Return one dependent of a key, whether or not its registration has ended. Raises NotVisible."""
    rows = Dependent.objects.filter(key_id=key_id).select_related("key", "connection__environment")
    found = rows.filter(pk=dependent_id).first()
    if found is None:
        raise NotVisible(f"dependent {dependent_id}")
    return found


def places_of(key_id: UUID) -> Sequence[Dependent]:
    """Return the registered places that a key is written to, by name."""
    rows = Dependent.objects.filter(key_id=key_id, ended_at=None, connection__isnull=False)
    return list(rows.select_related("connection").order_by("name"))


def places_at(connection_id: UUID) -> Sequence[Dependent]:
    """Return the registered places of one destination, by key and name."""
    rows = Dependent.objects.filter(connection_id=connection_id, ended_at=None)
    return list(rows.select_related("key").order_by("key__name", "name"))


def at_place(connection_id: UUID, target: Mapping[str, str]) -> Dependent | None:
    """Return who is written to a place already, or None."""
    rows = Dependent.objects.filter(ended_at=None, connection_id=connection_id)
    return rows.filter(target=dict(target)).select_related("key").first()


def place(dependent_id: UUID) -> Dependent | None:
    """Return a registered place that keyvault writes to, or None."""
    rows = Dependent.objects.select_related("key", "connection")
    return rows.filter(pk=dependent_id, ended_at=None, connection__isnull=False).first()


def by_name(key_id: UUID, name: str) -> Dependent:
    """Return one registered dependent of a key. Raises NotVisible."""
    found = Dependent.objects.filter(key_id=key_id, name=name, ended_at=None).first()
    if found is None:
        raise NotVisible(f"dependent {name}")
    return found


def by_id(key_id: UUID, dependent_id: UUID) -> Dependent:
    """Return one registered dependent of a key. Raises NotVisible."""
    rows = Dependent.objects.filter(key_id=key_id, ended_at=None).select_related("key")
    found = rows.filter(pk=dependent_id).first()
    if found is None:
        raise NotVisible(f"dependent {dependent_id}")
    return found


def ways() -> list[tuple[str, str]]:
    """Return the ways in which it is known which version a dependent has, with their words."""
    return list(Health.choices)


def _capabilities(row: Dependent) -> DestinationCapabilities | None:
    return connections.destination_capabilities(row.connection) if row.connection else None
