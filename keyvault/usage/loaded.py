"""Which agents say that they have loaded which versions of a key (`POST /v1/heartbeat`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from keyvault.usage.models import LoadedVersion

KEEP = timedelta(days=30)
SHOWN = 50


@dataclass(frozen=True, slots=True)
class Loaded:
    """One agent with one version. `is_healthy`: what it last said of itself."""

    agent: str
    number: int
    is_healthy: bool
    first_at: datetime
    last_at: datetime


def by_key(key_id: UUID) -> list[Loaded]:
    """Return who has loaded what of a key, the newest version and the newest report first."""
    rows = LoadedVersion.objects.filter(key_id=key_id).order_by("-number", "-last_at")
    facts = rows.values_list("agent__name", "number", "is_healthy", "first_at", "last_at")
    return [Loaded(*row) for row in facts[:SHOWN]]


def newest(key_id: UUID, agent_ids: Collection[UUID]) -> dict[UUID, Loaded]:
    """Return what each of these agents last said of a key; agents that said nothing are left out."""
    rows = LoadedVersion.objects.filter(key_id=key_id, agent_id__in=agent_ids)
    rows = rows.order_by("agent_id", "-last_at", "-number").distinct("agent_id")
    return {
        row.agent_id: Loaded(row.agent.name, row.number, row.is_healthy, row.first_at, row.last_at)
        for row in rows.select_related("agent")
    }


def report(*, key_id: UUID, agent_id: UUID, number: int, is_healthy: bool, now: datetime) -> None:
    """Write down what an agent says of itself, as the gateways do; an older word changes nothing.

    The caller has judged the agent's right, and that only its own token said it.
    """
    row, is_new = LoadedVersion.objects.get_or_create(
        key_id=key_id,
        agent_id=agent_id,
        number=number,
        defaults={"is_healthy": is_healthy, "first_at": now, "last_at": now},
    )
    if not is_new:
        older = LoadedVersion.objects.filter(pk=row.pk, last_at__lt=now)
        older.update(is_healthy=is_healthy, last_at=now)


def forget(*, now: datetime) -> int:
    """Delete what nobody has said for 30 days; return how many."""
    deleted, _ = LoadedVersion.objects.filter(last_at__lt=now - KEEP).delete()
    return deleted
