"""Write moments and stretches of time as the console's pages do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_HOURS_SHOWN_BELOW_DAYS = 3


def stamp(moment: datetime) -> str:
    """Return a moment in full: 24 Nov 2026, 14:22 UTC."""
    here = moment.astimezone(UTC)
    return f"{here.day} {here:%b %Y, %H:%M} UTC"


def span(length: timedelta) -> str:
    """Return a length in its largest unit, the second one too below a day: 3 h 10 min."""
    seconds = int(abs(length.total_seconds()))
    if seconds < _MINUTE:
        return f"{seconds} s"
    days, hours, minutes = seconds // _DAY, seconds // _HOUR % 24, seconds // _MINUTE % 60
    if days:
        return f"{days} d {hours} h" if hours and days < _HOURS_SHOWN_BELOW_DAYS else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min"


def relative(moment: datetime, *, now: datetime) -> str:
    """Return "3 h 10 min ago", "in 20 h" or "just now"."""
    length = moment - now
    if abs(length) < timedelta(seconds=5):
        return "just now"
    return f"in {span(length)}" if length > timedelta(0) else f"{span(length)} ago"


def brief(moment: datetime, *, now: datetime) -> str:
    """Return a relative time within a day of now, else the date: 24 Nov 2026."""
    if abs(moment - now) < timedelta(days=1):
        return relative(moment, now=now)
    here = moment.astimezone(UTC)
    return f"{here.day} {here:%b %Y}"
