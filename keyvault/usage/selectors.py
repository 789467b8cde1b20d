"""Read usage: of one key or one agent, by hour, by day, by host and by user. Plain values only.

Every query is bounded: by an index that starts with the key or the agent, by a
span of time, and by a number of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Max, QuerySet
from django.db.models import Sum as Total
from django.db.models.functions import Now, TruncDay

from keyvault.usage import rollups, sums
from keyvault.usage.models import UsageEvent, UsageHour, UsageKind
from keyvault.usage.sums import Sum

HOURS, DAYS = 24, 30
LONGEST = timedelta(days=90)
LATELY = timedelta(days=DAYS)
SHOWN = 20
_AGENT, _USER = "agent", "user"


@dataclass(frozen=True, slots=True)
class Bucket:
    """How often within the hour or the day that begins `at`, UTC."""

    at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Part:
    """The share of one user, host or key. `kind`: agent or user; gateway or reported; key.

    `id` is that of an agent.
    """

    kind: str
    name: str
    count: int
    last_at: datetime
    id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of one key, or by one agent, since a moment.

    `last_at` is the last use ever known. Of users, hosts and keys the 20 with
    the newest use are here, `*` standing for hosts that were too many to keep
    apart; how many there are is beside them. `reported_day` and `read_day` are
    the sums of 24 hours by how the use came to our knowledge; leases count as reads.
    """

    since: datetime
    total: int
    last_at: datetime | None
    by_hour: tuple[Bucket, ...]
    by_day: tuple[Bucket, ...]
    by_user: tuple[Part, ...] = ()
    by_host: tuple[Part, ...] = ()
    by_key: tuple[Part, ...] = ()
    users: int = 0
    hosts: int = 0
    reported_day: int = 0
    read_day: int = 0


@dataclass(frozen=True, slots=True)
class Single:
    """One reported event. `number`: the version, where it is known."""

    at: datetime
    who: str
    host: str
    count: int
    number: int | None


def usage_of(key_id: UUID, *, since: datetime, now: datetime) -> Usage:
    """Return the use of a key; `since` lies at most 90 days back. The caller has passed its gate."""
    start, recent = _span(since, now), _first_hour(now)
    found = sums.of_key(key_id, since=start, recent=recent, most=SHOWN)
    return _usage(found, UsageHour.objects.filter(key=key_id), since=start, now=now)


def usage_by(
    agent_id: UUID, *, since: datetime, now: datetime, keys: Iterable[UUID] | None = None
) -> Usage:
    """Return the use of keys by an agent; `keys` narrows it to those that the reader may see."""
    rows = UsageHour.objects.filter(agent=agent_id)
    wanted = None if keys is None else list(keys)
    if wanted is not None:
        rows = rows.filter(key__in=wanted)
    start, recent = _span(since, now), _first_hour(now)
    found = sums.by_agent(agent_id, since=start, recent=recent, most=SHOWN, keys=wanted)
    return _usage(found, rows, since=start, now=now)


def _usage(
    found: Mapping[str, Sequence[Sum]],
    rows: QuerySet[UsageHour],
    *,
    since: datetime,
    now: datetime,
) -> Usage:
    by_kind = {one.kind: one.total for one in found[sums.KIND]}
    users, hosts = found[sums.USER], found[sums.HOST]
    return Usage(
        since=since,
        total=sum(one.total for one in found[sums.DAY]),
        last_at=max((one.last_at for one in found[sums.DAY]), default=None) or _last_at(rows),
        by_hour=_hours({one.at: one.total for one in found[sums.HOUR]}, now),
        by_day=_days({one.at: one.total for one in found[sums.DAY]}, since, now),
        by_user=tuple(_user(one) for one in users),
        by_host=tuple(
            Part(one.kind or "", one.host or "", one.total, one.last_at) for one in hosts
        ),
        by_key=tuple(
            Part("key", one.key, one.total, one.last_at) for one in found[sums.KEY] if one.key
        ),
        users=users[0].places if users else 0,
        hosts=hosts[0].places if hosts else 0,
        reported_day=by_kind.get(UsageKind.REPORTED, 0),
        read_day=by_kind.get(UsageKind.GATEWAY, 0) + by_kind.get(UsageKind.LEASE, 0),
    )


def keys_used_by(agent_id: UUID, *, since: datetime) -> list[UUID]:
    """Return the ids of the keys that an agent has used since a moment."""
    rows = UsageHour.objects.filter(agent=agent_id, hour__gte=rollups.hour_of(since))
    return list(rows.order_by("key").values_list("key", flat=True).distinct())


def last_use(key_id: UUID) -> datetime | None:
    """Return when a key was last used, as far as that is known."""
    return _last_at(UsageHour.objects.filter(key=key_id))


def days_of(key_id: UUID, *, now: datetime) -> tuple[Bucket, ...]:
    """Return the use of a key on each of the last 30 days, today last."""
    since = first_day(now)
    rows = UsageHour.objects.filter(key=key_id, hour__gte=since)
    found = rows.annotate(day=TruncDay("hour", tzinfo=UTC)).values_list("day")
    return _days(dict(found.annotate(Total("count")).order_by()), since, now)


def first_day(now: datetime) -> datetime:
    """Return the start of the first of the 30 days that end with today, UTC."""
    return _day_of(now) - timedelta(days=DAYS - 1)


def users_lately(key_id: UUID) -> Sequence[str]:
    """Return the names of who used a key in the last 30 days by the database's clock, sorted.

    At most 20, and no numbers: a plan that approvers sign changes only when
    somebody comes or goes, and not with every call.
    """
    rows = UsageHour.objects.filter(key=key_id, hour__gte=Now() - LATELY)
    named = rows.values("agent__name", "user__name").distinct()[:SHOWN]
    return sorted({_name(row) for row in named})


def agents_lately(key_id: UUID) -> Mapping[UUID, str]:
    """Return the agents that used a key in the last 30 days by the database's clock, with names."""
    rows = UsageHour.objects.filter(key=key_id, hour__gte=Now() - LATELY, agent__isnull=False)
    return dict(rows.values_list("agent", "agent__name").distinct().order_by("agent__name"))


def latest_reports(key_id: UUID, *, now: datetime, most: int = SHOWN) -> list[Single]:
    """Return the newest reported events about a key, of the last 90 days."""
    rows = UsageEvent.objects.filter(key_id=key_id, at__gt=now - LONGEST).order_by("-at")
    found = rows.values("at", "host", "count", "number", "agent__name", "user__name")[:most]
    return [
        Single(row["at"], _name(row), row["host"], row["count"], row["number"]) for row in found
    ]


def _hours(totals: Mapping[datetime | None, int], now: datetime) -> tuple[Bucket, ...]:
    """Return the running hour and the 23 before it, oldest first."""
    hours = (_first_hour(now) + timedelta(hours=number) for number in range(HOURS))
    return tuple(Bucket(hour, totals.get(hour, 0)) for hour in hours)


def _days(
    totals: Mapping[datetime | None, int], since: datetime, now: datetime
) -> tuple[Bucket, ...]:
    """Return each day from that of `since` to today (UTC), oldest first."""
    first = _day_of(since)
    days = (first + timedelta(days=number) for number in range((_day_of(now) - first).days + 1))
    return tuple(Bucket(day, totals.get(day, 0)) for day in days)


def _span(since: datetime, now: datetime) -> datetime:
    return rollups.hour_of(max(since, now - LONGEST))


def _first_hour(now: datetime) -> datetime:
    return rollups.hour_of(now) - timedelta(hours=HOURS - 1)


def _last_at(rows: QuerySet[UsageHour]) -> datetime | None:
    """Return the newest use: of the newest hour only, which an index finds."""
    newest = rows.order_by("-hour").values("hour")[:1]
    found: datetime | None = rows.filter(hour=newest).aggregate(last=Max("last_at"))["last"]
    return found


_UNKNOWN = "somebody unknown"


def _user(one: Sum) -> Part:
    kind = _AGENT if one.agent_id else _USER
    return Part(kind, one.who or _UNKNOWN, one.total, one.last_at, one.agent_id)


def _name(row: Mapping[str, Any]) -> str:
    return str(row["agent__name"] or row["user__name"] or _UNKNOWN)


def _day_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
