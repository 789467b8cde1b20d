from datetime import UTC, datetime, timedelta

import pytest

from keyvault.web import moments

NOW = datetime(2026, 11, 24, 14, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (3600 * 3 + 600, "3 h 10 min"),
        (86400 + 3600, "1 d 1 h"),
        (86400 * 28, "28 d"),
        (-90, "1 min"),
    ],
)
def test_a_span_is_in_its_largest_unit(seconds, words):
    assert moments.span(timedelta(seconds=seconds)) == words


def test_past_and_future_read_differently():
    hour = timedelta(hours=1)

    assert moments.relative(NOW - hour, now=NOW) == "1 h ago"
    assert moments.relative(NOW + hour, now=NOW) == "in 1 h"
    assert moments.relative(NOW, now=NOW) == "just now"


def test_a_distant_moment_is_a_date():
    assert moments.brief(NOW - timedelta(days=300), now=NOW) == "28 Jan 2026"


def test_a_stamp_names_its_zone():
    assert moments.stamp(NOW) == "24 Nov 2026, 14:22 UTC"
