"""Count matching events over time, within a bound on the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import OperationalError, connection, transaction
from django.db.models import Count, FloatField, Func, IntegerField, Min, Q, Value
from django.db.models.functions import Extract

from keyvault.audit import selectors
from keyvault.audit.models import Event, Outcome
from keyvault.audit.query import Query, Span

COLUMNS = 84
PATIENCE_MS = 400  # A page waits no longer than this for its picture.


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of (allowed, refused) for equal stretches from `start` to `end`."""

    start: datetime
    end: datetime
    counts: tuple[tuple[int, int], ...]

    @property
    def total(self) -> int:
        """Return how many events match."""
        return sum(map(sum, self.counts))

    @property
    def refused(self) -> int:
        """Return how many of them were refused or failed."""
        return sum(refused for _, refused in self.counts)

    @property
    def step(self) -> timedelta:
        """Return the width of one column."""
        return (self.end - self.start) / len(self.counts)


class _WidthBucket(Func):
    function = "width_bucket"
    output_field = IntegerField()


def histogram(query: Query, *, now: datetime) -> Histogram | None:
    """Return the counts, or None when they cannot be had in time."""
    start, end = window(query, now=now)
    place = _WidthBucket(
        Extract("at", "epoch", output_field=FloatField()),
        Value(start.timestamp(), output_field=FloatField()),
        Value(end.timestamp(), output_field=FloatField()),
        Value(COLUMNS),
    )
    refused = Count("id", filter=~Q(outcome=Outcome.OK))
    rows = (
        selectors.matches(query)
        .filter(at__gte=start, at__lt=end)
        .annotate(place=place)
        .values("place")
        .annotate(total=Count("id"), refused=refused)
        .order_by()
    )
    try:
        with _patience():
            found = {row["place"]: (row["total"], row["refused"]) for row in rows}
    except OperationalError:
        return None
    pairs = (found.get(place, (0, 0)) for place in range(1, COLUMNS + 1))
    return Histogram(start, end, tuple((total - bad, bad) for total, bad in pairs))


def window(query: Query, *, now: datetime) -> tuple[datetime, datetime]:
    """Return the stretch of time that a query is about, at least a minute long."""
    term = query.named("time")
    spans = [value for value in term.values if isinstance(value, Span)] if term else []
    low, high = (spans[0].low, spans[0].high) if len(spans) == 1 else (None, None)
    end = high if isinstance(high, datetime) and high < now else now + timedelta(seconds=1)
    start = low if isinstance(low, datetime) else _oldest(now)
    if term and term.is_negated:
        start, end = _oldest(now), now + timedelta(seconds=1)
    return min(start, end - timedelta(minutes=1)), end


def _oldest(now: datetime) -> datetime:
    found: datetime | None = Event.objects.aggregate(oldest=Min("at"))["oldest"]
    return found or now


@contextmanager
def _patience() -> Iterator[None]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {PATIENCE_MS:d}")
        yield
        cursor.execute("SET LOCAL statement_timeout = DEFAULT")
