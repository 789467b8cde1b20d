"""For how long a credential is lent (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

LEAST_S, USUAL_S, MOST_S = 60, 900, 86_400
# Of one key an agent may hold this many at once: one for each of a few runs side by side.
MOST_HELD = 5
# Longer than a call and what comes before it. Whoever asked has gone, or hangs.
GIVEN_UP = timedelta(seconds=60)


def earliest(*ends: datetime | None) -> datetime:
    """Return the first of several ends; None never comes. Raises ValueError without any."""
    return min(end for end in ends if end is not None)


def latest(ends: Iterable[datetime | None]) -> datetime | None:
    """Return when the last of several rights ends; None where one of them does not."""
    found = list(ends)
    return None if None in found else max(end for end in found if end is not None)
