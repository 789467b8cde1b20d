"""The keys one person may see, in figures: inside policy, due, late, and the next 90 days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from keyvault.connections import selectors as connections
from keyvault.inventory.access import visible_keys
from keyvault.web import geometry

if TYPE_CHECKING:
    from keyvault.accounts.models import User

SOON = timedelta(days=7)
DAYS = 90
MOST = 10_000
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Strip:
    """One lane of the next 90 days: total, cells and the sentence that says it in words."""

    title: str
    total: int
    cells: tuple[geometry.Segment, ...]
    label: str


@dataclass(frozen=True, slots=True)
class ByHand:
    """The keys with no automatic renewal: how many, and the next of them by their day."""

    count: int
    next: list[tuple[str, datetime | None]]

    @property
    def further(self) -> int:
        """Return how many are counted and not named."""
        return self.count - len(self.next)


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
    by_hand: ByHand
    next_out: str
    next_out_at: datetime | None


def fleet(person: User, *, now: datetime) -> Fleet:
    """Return the figures over every key that this person may see."""
    keys = visible_keys(person).order_by()
    rows = list(
        keys.filter(state="live").values_list(
            "name", "expires_at", "rotation_due_at", "connection_id"
        )[:MOST]
    )
    ends = [
        min(moment for moment in (end, turn) if moment) for _, end, turn, _ in rows if end or turn
    ]
    late = sum(end <= now for end in ends)
    due = sum(now < end <= now + SOON for end in ends)
    inside = len(rows) - late - due
    coming = sorted((end, name) for name, end, *_ in rows if end and end > now)
    manual = connections.renewed_by_hand({row[3] for row in rows})
    by_hand = [(name, turn) for name, _, turn, where in rows if where in manual]
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
            _strip(
                "Rotates",
                [turn for _, _, turn, _ in rows],
                now,
                "rotations due",
                by_hand=[turn for _, turn in by_hand],
            ),
            _strip("Expires", [end for _, end, *_ in rows], now, "expiries"),
        ],
        by_hand=_by_hand(by_hand),
        next_out=coming[0][1] if coming else "",
        next_out_at=coming[0][0] if coming else None,
    )


def _by_hand(found: list[tuple[str, datetime | None]]) -> ByHand:
    dated = sorted((turn, name) for name, turn in found if turn)
    rest = [(name, turn) for name, turn in found if turn is None]
    return ByHand(len(found), [*((name, turn) for turn, name in dated), *rest][:SHOWN])


def _strip(
    title: str,
    moments: list[datetime | None],
    now: datetime,
    noun: str,
    *,
    by_hand: Iterable[datetime | None] = (),
) -> Strip:
    """Return one lane. `by_hand`: those of its moments at which a person is needed, drawn red."""
    days = _days(moments, now)
    counts = [days[day] for day in range(DAYS)]
    total = sum(counts)
    manual = _days(by_hand, now)
    urgent = frozenset(day for day in range(DAYS) if manual[day])
    busiest = max(range(DAYS), key=counts.__getitem__)
    label = f"{total} {noun} in the next {DAYS} days"
    if total:
        label += f", most of them ({counts[busiest]}) in {busiest} days"
    if urgent:
        label += f"; {sum(manual[day] for day in urgent)} need a person"
    return Strip(title, total, geometry.heat(counts, urgent=urgent), label)


def _days(moments: Iterable[datetime | None], now: datetime) -> Counter[int]:
    """Return how many moments fall on each day from today, which is 0."""
    return Counter((moment.date() - now.date()).days for moment in moments if moment)
