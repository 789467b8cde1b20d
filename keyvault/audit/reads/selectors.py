"""Look at reads: the last ones of a key or an agent, and how many there were each hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Count, QuerySet
from django.db.models.functions import TruncHour

from keyvault.audit.reads.models import ReadEvent

LIMIT, MOST = 50, 500

_LAST = """
SELECT who.id, last.number, last.at FROM unnest(%s::uuid[]) AS who (id) CROSS JOIN LATERAL (
    SELECT number, at FROM keyvault_readevent
    WHERE agent_id = who.id AND key_id = %s AND at >= %s AND (%s::int IS NULL OR number = %s)
        AND door <> 'pending'
    ORDER BY at DESC LIMIT 1
) AS last
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One read as a page shows it. `process` and `number_in_log` name it for a proof."""

    at: datetime
    agent_id: UUID
    key_id: UUID
    key: str
    version: int
    door: str
    token: str
    source: str
    request: str
    process: UUID
    number_in_log: int


@dataclass(frozen=True, slots=True)
class Hour:
    """How often one agent read one key in the hour that begins `at`."""

    at: datetime
    agent_id: UUID
    key_id: UUID
    reads: int


def of_key(key_id: UUID, *, since: datetime, limit: int = LIMIT) -> tuple[Seen, ...]:
    """Return the newest reads of one key first. `since` bounds how many days are looked through."""
    return _newest(ReadEvent.objects.filter(key_id=key_id, at__gte=since), limit)


def of_agent(agent_id: UUID, *, since: datetime, limit: int = LIMIT) -> tuple[Seen, ...]:
    """Return the newest reads by one agent first. `since` bounds how many days are looked through."""
    return _newest(ReadEvent.objects.filter(agent_id=agent_id, at__gte=since), limit)


def by_hour(
    *, since: datetime, until: datetime, key_id: UUID | None = None, agent_id: UUID | None = None
) -> tuple[Hour, ...]:
    """Return the reads of a half-open time by hour, agent and key, oldest hour first."""
    rows = ReadEvent.objects.filter(at__gte=since, at__lt=until)
    if key_id:
        rows = rows.filter(key_id=key_id)
    if agent_id:
        rows = rows.filter(agent_id=agent_id)
    counted = (
        rows.annotate(hour=TruncHour("at"))
        .values("hour", "agent_id", "key_id")
        .annotate(reads=Count("seq"))
        .order_by("hour", "agent_id", "key_id")
    )
    return tuple(Hour(row["hour"], row["agent_id"], row["key_id"], row["reads"]) for row in counted)


def _newest(rows: QuerySet[ReadEvent], limit: int) -> tuple[Seen, ...]:
    return tuple(
        Seen(
            at=row.at,
            agent_id=row.agent_id,
            key_id=row.key_id,
            key=row.key,
            version=row.number,
            door=row.door,
            token=row.token,
            source=row.source,
            request=row.request,
            process=row.process,
            number_in_log=row.seq,
        )
        for row in rows.order_by("-at", "-seq")[: min(limit, MOST)]
    )


@dataclass(frozen=True, slots=True)
class LastRead:
    """The newest read of a key by one agent."""

    number: int
    at: datetime


def last_of(
    key_id: UUID, agent_ids: Sequence[UUID], *, since: datetime, number: int | None = None
) -> dict[UUID, LastRead]:
    """Return the newest read of a key by each of these agents; who read nothing is left out.

    `number` counts reads of that version only. What was fetched before it was in use
    (the door `pending`) proves no use and is left out. One look-up in an index for each
    agent, however often they read.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LAST, [list(agent_ids), key_id, since, number, number])
        return {agent_id: LastRead(found, at) for agent_id, found, at in cursor.fetchall()}
