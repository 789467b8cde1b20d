"""The keys one person may see, in figures: inside policy, due, late, and the next 90 days."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from keyvault.inventory.access import visible_keys
from keyvault.web import geometry

if TYPE_CHECKING:
    from keyvault.accounts.models import User

SOON = timedelta(days=7)
DAYS = 90
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Strip:
    """One lane of the next 90 days: total, cells and the sentence that says it in words."""

    title: str
    total: int
    cells: tuple[geometry.Segment, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a person's live keys look like now."""

    live: int
    inside: int
    due: int
    late: int
    requested: int
    shares: list[tuple[float, str]]
    label: str
    months: tuple[tuple[str, str], ...]
    strips: list[Strip]
    next_out: str
    next_out_at: datetime | None


def fleet(person: User, *, now: datetime) -> Fleet:
    """Return the figures over every key that this person may see."""
    keys = visible_keys(person).order_by()
    rows = list(
        keys.filter(state="live").values_list("name", "expires_at", "rotation_due_at")[:MOST]
    )
    ends = [min(moment for moment in (end, turn) if moment) for _, end, turn in rows if end or turn]
    late = sum(end <= now for end in ends)
    due = sum(now < end <= now + SOON for end in ends)
    inside = len(rows) - late - due
    coming = sorted((end, name) for name, end, _ in rows if end and end > now)
    return Fleet(
        live=len(rows),
        inside=inside,
        due=due,
        late=late,
        requested=keys.filter(state="requested").count(),
        shares=[(inside, "sv-ok"), (due, "sv-warn"), (late, "sv-bad")],
        label=f"{inside} inside policy, {due} due within 7 days, {late} past their date",
        months=geometry.months(now.date(), DAYS),
        strips=[
            _strip("Rotates", [turn for _, _, turn in rows], now, "rotations due"),
            _strip("Expires", [end for _, end, _ in rows], now, "expiries"),
        ],
        next_out=coming[0][1] if coming else "",
        next_out_at=coming[0][0] if coming else None,
    )


def _strip(title: str, moments: list[datetime | None], now: datetime, noun: str) -> Strip:
    days = Counter((moment.date() - now.date()).days for moment in moments if moment)
    counts = [days[day] for day in range(DAYS)]
    total = sum(counts)
    busiest = max(range(DAYS), key=counts.__getitem__)
    label = f"{total} {noun} in the next {DAYS} days"
    if total:
        label += f", most of them ({counts[busiest]}) in {busiest} days"
    return Strip(title, total, geometry.heat(counts), label)
