"""Read who uses a key."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from approvals.ports import NotVisible
from keyvault.dependents.models import Dependent


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
