"""Read who uses a key."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from approvals.ports import NotVisible
from keyvault.dependents.models import Dependent, Health


def of_key(key_id: UUID) -> Sequence[Dependent]:
    """Return the registered dependents of a key, wave by wave."""
    rows = Dependent.objects.filter(key_id=key_id, ended_at=None).select_related("agent")
    return list(rows.order_by("wave", "name"))


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
