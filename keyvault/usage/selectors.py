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

from django.db.models import Count, Max, QuerySet, Sum
from django.db.models.functions import Now, TruncDay

from keyvault.usage import rollups
from keyvault.usage.models import UsageEvent, UsageHour, UsageKind

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
    the sums of 24 hours by how the use came to our knowledge.
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
    rows = UsageHour.objects.filter(key=key_id)
    start, found = _span(rows, since, now)
    whole = found.aggregate(total=Sum("count"), hosts=Count("host", distinct=True))
    by_user, users = _by_user(found)
    day = _by_kind(rows, now)
    return Usage(
        since=start,
        total=whole["total"] or 0,
        last_at=_last_at(rows),
        by_hour=by_hour(rows, now=now),
        by_day=by_day(found, since=start, now=now),
        by_user=by_user,
        by_host=_by_host(found),
        users=users,
        hosts=whole["hosts"],
        reported_day=day.get(UsageKind.REPORTED, 0),
        read_day=day.get(UsageKind.GATEWAY, 0),
    )


def usage_by(
    agent_id: UUID, *, since: datetime, now: datetime, keys: Iterable[UUID] | None = None
) -> Usage:
    """Return the use of keys by an agent; `keys` narrows it to those that the reader may see."""
    rows = UsageHour.objects.filter(agent=agent_id)
    if keys is not None:
        rows = rows.filter(key__in=list(keys))
    start, found = _span(rows, since, now)
    return Usage(
        since=start,
        total=found.aggregate(total=Sum("count"))["total"] or 0,
        last_at=_last_at(rows),
        by_hour=by_hour(rows, now=now),
        by_day=by_day(found, since=start, now=now),
        by_key=_by_key(found),
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
    return by_day(UsageHour.objects.filter(key=key_id, hour__gte=since), since=since, now=now)


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


def latest_reports(key_id: UUID, *, now: datetime, most: int = SHOWN) -> list[Single]:
    """Return the newest reported events about a key, of the last 90 days."""
    rows = UsageEvent.objects.filter(key_id=key_id, at__gt=now - LONGEST).order_by("-at")
    found = rows.values("at", "host", "count", "number", "agent__name", "user__name")[:most]
    return [
        Single(row["at"], _name(row), row["host"], row["count"], row["number"]) for row in found
    ]


def by_hour(rows: QuerySet[UsageHour], *, now: datetime) -> tuple[Bucket, ...]:
    """Return the sums of the running hour and the 23 before it, oldest first."""
    first = _first_hour(now)
    found = rows.filter(hour__gte=first).values_list("hour").annotate(Sum("count"))
    sums = dict(found.order_by())
    hours = (first + timedelta(hours=number) for number in range(HOURS))
    return tuple(Bucket(hour, sums.get(hour, 0)) for hour in hours)


def by_day(rows: QuerySet[UsageHour], *, since: datetime, now: datetime) -> tuple[Bucket, ...]:
    """Return the sums of each day from that of `since` to today (UTC), oldest first."""
    found = rows.annotate(day=TruncDay("hour", tzinfo=UTC)).values_list("day")
    sums = dict(found.annotate(Sum("count")).order_by())
    first = _day_of(since)
    days = ((_day_of(now) - first).days) + 1
    moments = (first + timedelta(days=number) for number in range(days))
    return tuple(Bucket(day, sums.get(day, 0)) for day in moments)


def _span(
    rows: QuerySet[UsageHour], since: datetime, now: datetime
) -> tuple[datetime, QuerySet[UsageHour]]:
    start = rollups.hour_of(max(since, now - LONGEST))
    return start, rows.filter(hour__gte=start)


def _first_hour(now: datetime) -> datetime:
    return rollups.hour_of(now) - timedelta(hours=HOURS - 1)


def _by_kind(rows: QuerySet[UsageHour], now: datetime) -> dict[str, int]:
    found = rows.filter(hour__gte=_first_hour(now)).values_list("kind").annotate(Sum("count"))
    return dict(found.order_by())


def _last_at(rows: QuerySet[UsageHour]) -> datetime | None:
    """Return the newest use: of the newest hour only, which an index finds."""
    newest = rows.order_by("-hour").values("hour")[:1]
    found: datetime | None = rows.filter(hour=newest).aggregate(last=Max("last_at"))["last"]
    return found


def _by_user(found: QuerySet[UsageHour]) -> tuple[tuple[Part, ...], int]:
    grouped = found.values("agent_id", "agent__name", "user__name")
    rows = list(_newest(grouped)[: SHOWN + 1])
    count = len(rows) if len(rows) <= SHOWN else grouped.distinct().count()
    shown = tuple(
        Part(_kind(row), _name(row), row["total"], row["last"], row["agent_id"])
        for row in rows[:SHOWN]
    )
    return shown, count


def _by_host(found: QuerySet[UsageHour]) -> tuple[Part, ...]:
    rows = _newest(found.exclude(host="").values("kind", "host"))[:SHOWN]
    return tuple(Part(row["kind"], row["host"], row["total"], row["last"]) for row in rows)


def _by_key(found: QuerySet[UsageHour]) -> tuple[Part, ...]:
    rows = _newest(found.values("key__name"))[:SHOWN]
    return tuple(Part("key", row["key__name"], row["total"], row["last"]) for row in rows)


def _newest(groups: QuerySet[UsageHour, Any]) -> QuerySet[UsageHour, Any]:
    """Return groups with their sum and their newest use, the newest first."""
    return groups.annotate(total=Sum("count"), last=Max("last_at")).order_by("-last")


_UNKNOWN = "somebody unknown"


def _kind(row: Mapping[str, Any]) -> str:
    return _AGENT if row["agent_id"] else _USER


def _name(row: Mapping[str, Any]) -> str:
    return str(row["agent__name"] or row["user__name"] or _UNKNOWN)


def _day_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
