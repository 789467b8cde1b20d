"""Add to the sums by hour: the one writer of `UsageHour`, for reads, leases and reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from django.db import connection

from keyvault.usage.models import UsageHour

HOSTS_MOST = 200
OTHER_HOSTS = "*"

_ADD = """
INSERT INTO keyvault_usagehour AS h (key_id, hour, agent_id, user_id, host, kind, count, last_at)
SELECT * FROM unnest(%s::uuid[], %s::timestamptz[], %s::uuid[], %s::uuid[], %s::text[], %s::text[],
    %s::bigint[], %s::timestamptz[])
ON CONFLICT (key_id, hour, agent_id, user_id, host, kind) DO UPDATE
SET count = h.count + excluded.count, last_at = greatest(h.last_at, excluded.last_at)
"""
_HOSTS = """
SELECT DISTINCT h.key_id, h.hour, h.host FROM keyvault_usagehour h
JOIN unnest(%s::uuid[], %s::timestamptz[]) AS wanted (key_id, hour)
    ON wanted.key_id = h.key_id AND wanted.hour = h.hour
"""


class NotInTransaction(Exception):
    """Sums are added together with what says that they were: call this in a transaction."""


@dataclass(frozen=True, slots=True)
class Place:
    """What one sum is of. `agent_id` or `user_id` says who; `hour` is its start, UTC."""

    key_id: UUID
    hour: datetime
    agent_id: UUID | None
    user_id: UUID | None
    host: str
    kind: str

    @property
    def order(self) -> tuple[str, ...]:
        """Return where it stands when rows are locked: everywhere the same, so none wait in a ring."""
        ids = (self.key_id, self.hour, self.agent_id or "", self.user_id or "")
        return (*map(str, ids), self.host, self.kind)


@dataclass(frozen=True, slots=True)
class Tally:
    """How much is added to one sum, and the newest use among it."""

    place: Place
    count: int
    last_at: datetime


def hour_of(at: datetime) -> datetime:
    """Return the start of the hour of a moment, UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def add(tallies: Iterable[Tally]) -> int:
    """Add to the sums in the caller's transaction; return how many sums were touched.

    Raises NotInTransaction: the caller would not know whether it has to add again.
    """
    if not connection.in_atomic_block:
        raise NotInTransaction
    merged = _merged(_few_hosts(_merged(tallies)))
    if not merged:
        return 0
    rows = sorted(merged, key=lambda tally: tally.place.order)
    places = [tally.place for tally in rows]
    with connection.cursor() as cursor:
        cursor.execute(
            _ADD,
            [
                [place.key_id for place in places],
                [place.hour for place in places],
                [place.agent_id for place in places],
                [place.user_id for place in places],
                [place.host for place in places],
                [place.kind for place in places],
                [tally.count for tally in rows],
                [tally.last_at for tally in rows],
            ],
        )
    return len(rows)


def drop_before(moment: datetime, *, most: int = 50_000) -> int:
    """Delete sums of hours before a moment, at most `most`; return how many."""
    old = UsageHour.objects.filter(hour__lt=moment).values("pk")[:most]
    return UsageHour.objects.filter(pk__in=old).delete()[0]


def _merged(tallies: Iterable[Tally]) -> list[Tally]:
    """Return one tally for each place: a statement may touch each row only once."""
    found: dict[Place, Tally] = {}
    for tally in tallies:
        before = found.get(tally.place)
        if before is not None:
            last_at = max(before.last_at, tally.last_at)
            tally = Tally(tally.place, before.count + tally.count, last_at)  # noqa: PLW2901
        found[tally.place] = tally
    return list(found.values())


def _few_hosts(tallies: Sequence[Tally]) -> Iterable[Tally]:
    """Put hosts together under `OTHER_HOSTS` where one key has very many in one hour.

    Whoever reports invents hosts at will, and each would be a row for 400 days.
    """
    known = _known_hosts({(tally.place.key_id, tally.place.hour) for tally in tallies})
    for tally in tallies:
        hosts = known[tally.place.key_id, tally.place.hour]
        if tally.place.host not in hosts and len(hosts) >= HOSTS_MOST:
            yield replace(tally, place=replace(tally.place, host=OTHER_HOSTS))
        else:
            hosts.add(tally.place.host)
            yield tally


def _known_hosts(wanted: set[tuple[UUID, datetime]]) -> dict[tuple[UUID, datetime], set[str]]:
    found: dict[tuple[UUID, datetime], set[str]] = defaultdict(set)
    pairs = list(wanted)
    with connection.cursor() as cursor:
        cursor.execute(_HOSTS, [[key for key, _ in pairs], [hour for _, hour in pairs]])
        for key_id, hour, host in cursor.fetchall():
            found[key_id, hour].add(host)
    return found
