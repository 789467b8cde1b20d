from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvault.web import geometry

NOW = datetime(2026, 11, 24, 14, 22, tzinfo=UTC)
BORN = NOW - timedelta(days=75)


def _life(expires, versions=()):
    return geometry.lifeline(created=BORN, expires=expires, versions=versions, now=NOW)


def test_today_stands_where_its_share_of_the_life_is_over():
    assert _life(NOW + timedelta(days=25)).today == "75%"


def test_a_key_past_its_expiry_is_red_and_today_stands_at_the_end():
    life = _life(NOW - timedelta(days=1))

    assert (life.today, life.css, life.anchor) == ("100%", "sv-bad", "end")


def test_the_last_week_is_amber():
    assert _life(NOW + timedelta(days=6)).css == "sv-warn"


def test_a_key_without_expiry_claims_no_end():
    life = _life(None)

    assert life.end is None
    assert "no expiry" in life.label
    assert life.today == "80%"


def test_versions_lie_side_by_side_with_a_gap_between_them():
    turn = BORN + timedelta(days=50)
    life = _life(
        NOW + timedelta(days=25),
        [
            geometry.Version(1, BORN, turn, "revoked"),
            geometry.Version(2, turn, None, "current"),
        ],
    )

    assert [(part.x, part.width, part.label) for part in life.segments] == [
        ("0%", "49.7%", "v1"),
        ("50%", "24.7%", "v2"),
    ]


def test_a_sliver_of_a_past_version_goes_without_its_label():
    turn = BORN + timedelta(hours=1)
    life = _life(
        NOW + timedelta(days=25),
        [geometry.Version(1, BORN, turn, "revoked"), geometry.Version(2, turn, None, "current")],
    )

    assert [part.label for part in life.segments] == ["", "v2"]


def test_the_sentence_says_what_the_picture_shows():
    life = _life(NOW + timedelta(days=25), [geometry.Version(1, BORN, None, "current")])

    assert life.label == (
        "Created 10 Sep 2026, 1 version. Version 1 is current. Expires 19 Dec 2026."
        " Today is 24 Nov 2026."
    )


@given(st.lists(st.floats(0, 1e9), min_size=2, max_size=40))
def test_a_trend_stays_inside_its_box(values):
    points = [pair.split(",") for pair in geometry.sparkline(values).line.split()]

    assert all(0 <= float(x) <= 100 and 1.9 <= float(y) <= 29 for x, y in points)


def test_a_trend_needs_two_values():
    with pytest.raises(ValueError, match="two values"):
        geometry.sparkline([1])


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6))
def test_shares_never_leave_the_bar(amounts):
    parts = geometry.meter([(amount, "sv-ok") for amount in amounts])

    ends = [float(part.x[:-1]) + float(part.width[:-1]) for part in parts]
    assert len(parts) == sum(amount > 0 for amount in amounts)
    assert all(end <= 100.6 for end in ends)


def test_a_meter_of_nothing_is_empty():
    assert geometry.meter([(0, "sv-ok")]) == ()


def test_a_small_share_stays_visible():
    parts = geometry.meter([(100_000, "sv-ok"), (1, "sv-bad")])

    assert parts[1].width == "0.5%"


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=60))
def test_columns_stand_on_the_ground_and_stack(counts):
    for column in geometry.histogram(counts):
        assert column.y + column.height == pytest.approx(60, abs=0.02)
        assert column.refused_y + column.refused_height == pytest.approx(column.y, abs=0.02)
        assert column.refused_y >= -0.02


def test_an_empty_histogram_draws_nothing():
    assert geometry.histogram([]) == ()


def test_heat_orders_days_by_count_and_marks_urgent_ones():
    cells = geometry.heat([0, 2, 5, 9, 10, 1], urgent=frozenset({5}))

    assert [cell.css for cell in cells] == ["h0", "h1", "h2", "h3", "h4", "hx"]


def test_months_name_their_first_days():
    assert geometry.months(date(2026, 11, 24), 90) == (
        ("7.8%", "1 Dec"),
        ("42.2%", "1 Jan"),
        ("76.7%", "1 Feb"),
    )


def test_the_label_of_a_version_made_just_now_stays_inside_the_drawing():
    made = datetime(2026, 11, 23, tzinfo=UTC)
    version = geometry.Version(number=1, start=made, end=None, state="current")

    life = geometry.lifeline(
        created=made, expires=made + timedelta(days=30), versions=[version], now=made
    )

    assert life.segments[0].anchor == "start"
