"""Turn dates and numbers into the SVG attributes that pages draw with.

Every chart is SVG whose attributes are computed here, so that pages need
neither scripts nor style attributes (the policy forbids both). All functions
are pure. Lengths across a chart are percentages as text ("36.6%"); heights
are user units of the chart's own box.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

_Place = Callable[[datetime], float]

RISK_CUTS = (35, 65)
HEAVY_POINTS = 15


def percent(share: float) -> str:
    """Return a share of 1 as a percentage with one decimal, held within 0 and 100."""
    return f"{round(min(max(share, 0.0), 1.0) * 100, 1):g}%"


def day(moment: date) -> str:
    """Return a date as the console writes it: 24 Nov 2026."""
    return f"{moment.day} {moment:%b %Y}"


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of a bar: place, width, CSS class, and a label at its middle.

    `anchor` keeps a label inside the drawing where the middle is near an end.
    """

    x: str
    width: str
    css: str
    label: str = ""
    middle: str = ""
    anchor: str = "middle"


# --- the lifeline of a key ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Version:
    """One version on a lifeline. `state` is the version's state in code."""

    number: int
    start: datetime
    end: datetime | None
    state: str


@dataclass(frozen=True, slots=True)
class Lifeline:
    """A key's life from creation to expiry, ready to draw."""

    segments: tuple[Segment, ...]
    today: str
    anchor: str
    css: str
    label: str
    start: datetime
    end: datetime | None


_VERSION_CSS = {
    "pending": "h1",
    "current": "sv-info",
    "previous": "h2",
    "revoked": "old",
    "destroyed": "old",
}
_GAP = 0.003
_LABEL_ROOM = 0.04


def lifeline(
    *, created: datetime, expires: datetime | None, versions: Sequence[Version], now: datetime
) -> Lifeline:
    """Return the lifeline of a key.

    A key without expiry is drawn to a quarter beyond today, so that the bar
    never claims an end that nobody set.
    """
    end = max(expires or now + max((now - created) / 4, timedelta(days=1)), now)
    span = max((end - created).total_seconds(), 1.0)

    def place(moment: datetime) -> float:
        return min(max((moment - created).total_seconds() / span, 0.0), 1.0)

    return Lifeline(
        segments=tuple(_segment(version, place, now) for version in versions),
        today=percent(place(now)),
        anchor=_anchor(place(now)),
        css=_life_css(expires, now),
        label=_life_sentence(created, expires, versions, now),
        start=created,
        end=expires,
    )


def _segment(version: Version, place: _Place, now: datetime) -> Segment:
    left = place(version.start)
    is_current = version.state == "current"
    width = max(place(version.end or now) - left - _GAP, _GAP)
    return Segment(
        x=percent(left),
        width=percent(width),
        css=_VERSION_CSS[version.state],
        label=f"v{version.number}" if is_current or width >= _LABEL_ROOM else "",
        middle=percent(left + width / 2),
        anchor=_anchor(left + width / 2),
    )


def _anchor(share: float) -> str:
    if share > 1 - _LABEL_ROOM:
        return "end"
    return "start" if share < _LABEL_ROOM else "middle"


def _life_css(expires: datetime | None, now: datetime) -> str:
    if expires is None or expires - now > timedelta(days=7):
        return "sv-info"
    return "sv-bad" if expires <= now else "sv-warn"


def _life_sentence(
    created: datetime, expires: datetime | None, versions: Sequence[Version], now: datetime
) -> str:
    count = f"{len(versions)} version{'' if len(versions) == 1 else 's'}"
    current = [version.number for version in versions if version.state == "current"]
    live = f"Version {current[0]} is current. " if current else ""
    if expires is None:
        end = "It has no expiry."
    else:
        verb = "Expired" if expires <= now else "Expires"
        end = f"{verb} {day(expires)}."
    return f"Created {day(created)}, {count}. {live}{end} Today is {day(now)}."


# --- numbers -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sparkline:
    """The two point lists of a trend line in a box of 100 by 30."""

    line: str
    area: str


def sparkline(values: Sequence[float], *, low: float = 0.0) -> Sparkline:
    """Return the trend of `values`, `low` at the bottom. Raises ValueError below two values."""
    if len(values) < 2:  # noqa: PLR2004 - a line has two ends
        message = "a trend needs at least two values"
        raise ValueError(message)
    top = max(*values, low + 1e-9) - low
    step = 100 / (len(values) - 1)
    points = " ".join(
        f"{round(index * step, 1):g},{round(29 - max(value - low, 0.0) * 27 / top, 1):g}"
        for index, value in enumerate(values)
    )
    return Sparkline(line=points, area=f"0,30 {points} 100,30")


def meter(parts: Sequence[tuple[float, str]]) -> tuple[Segment, ...]:
    """Return share bars for (amount, css) parts, in order, with a thin gap between them.

    An amount above nothing stays visible: it gets at least half a per cent.
    """
    total = sum(amount for amount, _ in parts)
    if total <= 0:
        return ()
    segments, left = [], 0.0
    for amount, css in parts:
        if amount > 0:
            share = amount / total
            width = max(share - _GAP, 0.005)
            segments.append(Segment(percent(left), percent(width), css))
            left += share
    return tuple(segments)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a histogram, stacked: allowed below, refused above."""

    x: str
    width: str
    y: float
    height: float
    refused_y: float
    refused_height: float
    label: str = ""
    middle: str = ""


def histogram(
    counts: Sequence[tuple[int, int]], *, labels: Sequence[str] = (), height: float = 60.0
) -> tuple[Column, ...]:
    """Return stacked columns for (allowed, refused) counts, linear, in a box of `height`."""
    if not counts:
        return ()
    top = max(1, *(allowed + refused for allowed, refused in counts))
    wide = 1 / len(counts)
    columns = []
    for index, (allowed, refused) in enumerate(counts):
        lower, upper = height * allowed / top, height * refused / top
        columns.append(
            Column(
                x=percent(index * wide + wide * 0.06),
                width=percent(wide * 0.88),
                y=round(height - lower, 2),
                height=round(lower, 2),
                refused_y=round(height - lower - upper, 2),
                refused_height=round(upper, 2),
                label=labels[index] if index < len(labels) else "",
                middle=percent((index + 0.5) * wide),
            )
        )
    return tuple(columns)


_HEAT = ((0, "h0"), (2, "h1"), (5, "h2"), (9, "h3"))


def heat(counts: Sequence[int], *, urgent: frozenset[int] = frozenset()) -> tuple[Segment, ...]:
    """Return one cell a day; indexes in `urgent` are drawn red whatever their count."""
    if not counts:
        return ()
    wide = 1 / len(counts)
    return tuple(
        Segment(
            f"{round(index * wide * 100, 3):g}%",
            f"{round(wide * 85, 3):g}%",
            "hx" if index in urgent else _heat_css(count),
        )
        for index, count in enumerate(counts)
    )


def _heat_css(count: int) -> str:
    return next((css for most, css in _HEAT if count <= most), "h4")


def months(start: date, days: int) -> tuple[tuple[str, str], ...]:
    """Return (place, "1 Dec") for each first of a month within `days` after `start`."""
    return tuple(
        (percent(offset / days), f"1 {start + timedelta(days=offset):%b}")
        for offset in range(1, days)
        if (start + timedelta(days=offset)).day == 1
    )
