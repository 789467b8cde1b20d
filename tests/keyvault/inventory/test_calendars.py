from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvault.inventory import calendars

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MOMENTS = st.timedeltas(timedelta(0), timedelta(days=36_525)).map(lambda since: EPOCH + since)
TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
TEXTS = st.builds("{} {}".format, st.sampled_from(calendars.DAYS), TIMES)
MONDAY = datetime(2026, 6, 1, 9, 5, tzinfo=UTC)


def due(now: datetime, days: int, text: str) -> datetime:
    return calendars.next_due(now=now, cadence_days=days, text=text)


def is_such_a_day(moment: datetime, fixed: calendars.Calendar) -> bool:
    if fixed.day in calendars.WEEKDAYS:
        return moment.weekday() == calendars.WEEKDAYS.index(fixed.day)
    if fixed.day == calendars.LAST:
        return moment.day == calendar.monthrange(moment.year, moment.month)[1]
    return moment.day == int(fixed.day)


@given(MOMENTS, TEXTS, st.integers(0, 400))
def test_the_next_value_comes_on_such_a_day_and_never_after_the_cadence(now, text, more):
    fixed = calendars.parse(text)
    days = fixed.least_days + more

    found = due(now, days, text)

    limit = now + timedelta(days=days)
    assert now < found <= limit
    assert is_such_a_day(found, fixed)
    assert f"{found:%H:%M:%S}" == f"{text.split()[1]}:00"


@given(MOMENTS, TEXTS)
def test_no_such_day_lies_between_it_and_the_end_of_the_cadence(now, text):
    fixed = calendars.parse(text)
    found = due(now, fixed.least_days, text)
    limit = now + timedelta(days=fixed.least_days)

    later = found + timedelta(days=1)
    while later <= limit:
        assert not is_such_a_day(later, fixed)
        later += timedelta(days=1)


@given(MOMENTS, st.integers(1, 400))
def test_without_a_fixed_day_the_cadence_alone_counts(now, days):
    assert due(now, days, "") == now + timedelta(days=days)


@pytest.mark.parametrize(
    ("days", "text", "then"),
    [
        (7, "mon 09:00", datetime(2026, 6, 8, 9, tzinfo=UTC)),
        (7, "mon 09:06", datetime(2026, 6, 1, 9, 6, tzinfo=UTC)),
        (30, "sun 23:59", datetime(2026, 6, 28, 23, 59, tzinfo=UTC)),
        (31, "1 09:00", datetime(2026, 7, 1, 9, tzinfo=UTC)),
        (31, "last 00:00", datetime(2026, 6, 30, tzinfo=UTC)),
        (92, "1 09:00", datetime(2026, 9, 1, 9, tzinfo=UTC)),
    ],
)
def test_known_days(days, text, then):
    assert due(MONDAY, days, text) == then


def test_a_quarter_of_92_days_keeps_to_the_first_of_its_months():
    now, seen = datetime(2026, 1, 1, 9, 4, tzinfo=UTC), []
    for _ in range(4):
        now = due(now, 92, "1 09:00") + timedelta(minutes=4)
        seen.append((now.month, now.day))

    assert seen == [(4, 1), (7, 1), (10, 1), (1, 1)]


NO_CALENDARS = [
    "mon",
    "09:00",
    "Mon 09:00",
    "monday 09:00",
    "mon 9:00",
    "mon 24:00",
    "mon 09:60",
    "29 09:00",
    "0 09:00",
    "01 09:00",
    "mon  09:00",
    "mon 09:00\n",
    " ",
    "0 9 * * 1",
    "mon ٠٩:00",
]


@pytest.mark.parametrize("text", NO_CALENDARS)
def test_what_names_no_day_and_time_is_refused_with_the_mend(text):
    with pytest.raises(calendars.BadCalendar, match=r"mon 09:00, 15 09:00 or last 09:00"):
        calendars.parse(text)


@pytest.mark.parametrize(
    ("days", "text", "said"),
    [
        (1, "", "every 1 day"),
        (30, "", "every 30 days"),
        (30, "mon 09:00", "at least every 30 days, on a Monday at 09:00 UTC"),
        (31, "2 07:30", "at least every 31 days, on the 2nd of a month at 07:30 UTC"),
        (31, "last 00:00", "at least every 31 days, on the last day of a month at 00:00 UTC"),
    ],
)
def test_it_is_said_in_words(days, text, said):
    assert calendars.words(days, text) == said


def test_days_of_a_month_are_said_in_order():
    said = [calendars.ordinal(day) for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 28)]
    assert said == [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "13th",
        "21st",
        "22nd",
        "23rd",
        "28th",
    ]
