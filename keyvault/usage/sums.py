"""Read the sums of one key or one agent over a span of time in one pass.

Days, hours, users, hosts and keys are grouping sets of one query, over what is
left when the hours of a day are summed first: the rows of the span are visited
once, however many ways they are shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

DAY, HOUR, USER, HOST, KEY, KIND = "day", "hour", "user", "host", "key", "kind"

# Of users, hosts and keys only the newest leave the database; the rest are counted there.
_SUMS = """
WITH span AS MATERIALIZED (
    SELECT key_id, agent_id, user_id, host, kind, date_trunc('day', hour, 'UTC') AS day,
        CASE WHEN hour >= %(recent)s THEN hour END AS hour,
        sum(count) AS count, max(last_at) AS last_at
    FROM keyvault_usagehour
    WHERE {whose} = %(id)s AND hour >= %(since)s
        AND (%(keys)s::uuid[] IS NULL OR key_id = ANY(%(keys)s))
    GROUP BY 1, 2, 3, 4, 5, 6, 7
), sums AS (
    SELECT CASE WHEN grouping(day) = 0 THEN 'day' WHEN grouping(hour) = 0 THEN 'hour'
            WHEN grouping(agent_id) = 0 THEN 'user' WHEN grouping(host) = 0 THEN 'host'
            WHEN grouping(key_id) = 0 THEN 'key' ELSE 'kind' END AS of,
        coalesce(day, hour) AS at, agent_id, user_id, key_id, host, coalesce(kind, recent_kind)
            AS kind, sum(count)::bigint AS total, max(last_at) AS last_at
    FROM (SELECT *, CASE WHEN hour IS NOT NULL THEN kind END AS recent_kind FROM span) AS s
    GROUP BY GROUPING SETS
        ((day), (hour), (agent_id, user_id), (kind, host), (key_id), (recent_kind))
), ranked AS (
    SELECT *, row_number() OVER newest AS place, count(*) OVER (PARTITION BY of) AS places
    FROM sums WHERE of <> 'host' OR host <> ''
    WINDOW newest AS (PARTITION BY of ORDER BY last_at DESC, total DESC)
)
SELECT r.of, r.at, r.agent_id, coalesce(a.name, u.name), k.name, r.host, r.kind, r.total,
    r.last_at, r.places
FROM ranked r
LEFT JOIN keyvault_agent a ON a.id = r.agent_id
LEFT JOIN keyvault_user u ON u.id = r.user_id
LEFT JOIN keyvault_key k ON k.id = r.key_id
WHERE r.place <= %(most)s OR r.of IN ('day', 'hour')
ORDER BY r.of, r.place
"""
_OF_KEY, _BY_AGENT = _SUMS.format(whose="key_id"), _SUMS.format(whose="agent_id")


@dataclass(frozen=True, slots=True)
class Sum:
    """One sum. What it is not of is None; `places` says how many of its sort there are."""

    at: datetime | None
    agent_id: UUID | None
    who: str | None
    key: str | None
    host: str | None
    kind: str | None
    total: int
    last_at: datetime
    places: int


def of_key(
    key_id: UUID, *, since: datetime, recent: datetime, most: int
) -> Mapping[str, Sequence[Sum]]:
    """Return the sums of a key since an hour, by sort, the newest first.

    recent: where hours and kinds begin; they are of the last day only. most: how
    many users, hosts and keys are returned.
    """
    return _read(_OF_KEY, {"id": key_id, "since": since, "recent": recent, "most": most})


def by_agent(
    agent_id: UUID,
    *,
    since: datetime,
    recent: datetime,
    most: int,
    keys: Sequence[UUID] | None = None,
) -> Mapping[str, Sequence[Sum]]:
    """Return the sums of an agent since an hour, as `of_key` does; `keys` narrows them."""
    given = {"id": agent_id, "since": since, "recent": recent, "most": most, "keys": keys}
    return _read(_BY_AGENT, given)


def _read(statement: str, given: dict[str, Any]) -> Mapping[str, Sequence[Sum]]:
    found: dict[str, list[Sum]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(statement, {"keys": None, **given})
        for sort, *values in cursor.fetchall():
            found[sort].append(Sum(*values))
    return found
