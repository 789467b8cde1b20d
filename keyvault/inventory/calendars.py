"""When a key gets its next value: after its cadence, or on a fixed day within it (pure).

A calendar is one day and one time in UTC, `DAY HH:MM`, where DAY is `mon` to `sun`,
a day of the month from `1` to `28`, or `last`. It never makes a value last longer
than the cadence: the next value comes on the last such day before the cadence is over.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LAST = "last"
# Every month has them; the last day of a month is written `last`.
MONTH_DAYS = tuple(str(day) for day in range(1, 29))
DAYS = (*WEEKDAYS, *MONTH_DAYS, LAST)
# Empty stands for no calendar. PostgreSQL holds the column to the same pattern.
PATTERN = rf"^(({'|'.join(DAYS)}) ([01][0-9]|2[0-3]):[0-5][0-9])?$"
WEEK_DAYS, LONGEST_MONTH_DAYS = 7, 31
_TEENS = range(11, 14)


class BadCalendar(ValueError):
    """The text names no day and time. The message says how they are written."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """One day of each week or month, at one time in UTC."""

    day: str
    hour: int
    minute: int

    @property
    def least_days(self) -> int:
        """Return the shortest cadence, in days, that always has such a day in it."""
        return WEEK_DAYS if self.day in WEEKDAYS else LONGEST_MONTH_DAYS

    def last_until(self, limit: datetime) -> datetime:
        """Return the last such moment that is not after `limit`, which is in UTC."""
        at = limit.replace(hour=self.hour, minute=self.minute, second=0, microsecond=0)
        if self.day in WEEKDAYS:
            found = at - timedelta(days=(at.weekday() - WEEKDAYS.index(self.day)) % WEEK_DAYS)
            return found if found <= limit else found - timedelta(days=WEEK_DAYS)
        found = self._in_month(at)
        return found if found <= limit else self._in_month(at.replace(day=1) - timedelta(days=1))

    def words(self) -> str:
        """Return it as people say it."""
        when = f"at {self.hour:02}:{self.minute:02} UTC"
        if self.day in WEEKDAYS:
            return f"on a {calendar.day_name[WEEKDAYS.index(self.day)]} {when}"
        if self.day == LAST:
            return f"on the last day of a month {when}"
        return f"on the {ordinal(int(self.day))} of a month {when}"

    def _in_month(self, at: datetime) -> datetime:
        _, last = calendar.monthrange(at.year, at.month)
        return at.replace(day=last if self.day == LAST else int(self.day))


def parse(text: str) -> Calendar | None:
    """Return the calendar that a text writes, None for the empty text. Raises BadCalendar."""
    if not re.fullmatch(PATTERN, text):
        raise BadCalendar(
            "Write a day and a time in UTC: mon 09:00, 15 09:00 or last 09:00."
            " Days are mon to sun, 1 to 28, and last."
        )
    if not text:
        return None
    day, time = text.split()
    hour, minute = map(int, time.split(":"))
    return Calendar(day, hour, minute)


def next_due(*, now: datetime, cadence_days: int, text: str) -> datetime:
    """Return when a value that begins now is to be replaced. Raises BadCalendar."""
    limit, fixed = now + timedelta(days=cadence_days), parse(text)
    return fixed.last_until(limit) if fixed else limit


def words(cadence_days: int, text: str) -> str:
    """Return how often a value changes, as people say it. Raises BadCalendar."""
    often, fixed = f"every {cadence_days} day{'' if cadence_days == 1 else 's'}", parse(text)
    return f"at least {often}, {fixed.words()}" if fixed else often


def ordinal(day: int) -> str:
    """Return a day of the month as people say it: 1st, 2nd, 15th."""
    ending = "th" if day in _TEENS else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"
