"""Walk a long list by signed cursors: a page costs the same wherever it is, and no row comes twice.

Every list names its filters, its orders and a salt of its own, so that no other
look-up and no cursor of another list is accepted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

from django.core import signing
from django.core.exceptions import BadRequest
from django.db.models import F, Model, Q, QuerySet, Value
from django.db.models.functions import Coalesce

_M = TypeVar("_M", bound=Model)

PAGE_SIZE = 50
EXACT_COUNT = 10_000
NEVER = datetime(9999, 12, 31, tzinfo=UTC)
LONGEST = 120
CURSORS = frozenset({"after", "before"})


class BadFilter(BadRequest):
    """A filter, a sort order or a cursor that a list does not know; answered by 400."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order of a list by name, or by a moment and then by name.

    sort: its name in addresses and cursors. moment: the column. blank: where
    rows without that moment stand. salt: what tells this list's cursors apart.
    """

    salt: str
    sort: str = "name"
    moment: str = ""
    blank: datetime = NEVER


@dataclass(frozen=True, slots=True)
class Cut(Generic[_M]):
    """One page of rows. `after` and `before` are cursors, empty at the ends."""

    rows: list[_M]
    after: str
    before: str


def given(
    query: Mapping[str, str],
    *,
    names: Collection[str],
    closed: Mapping[str, frozenset[str]],
    noun: str,
) -> dict[str, str]:
    """Return the filters in a query string, without blanks.

    closed: the values that some of the names may have. Raises BadFilter on a
    name or value that is not listed.
    """
    unknown = set(query) - set(names) - CURSORS
    if unknown:
        raise BadFilter(f"{noun} cannot be filtered by {', '.join(sorted(unknown))}.")
    found = {name: query[name].strip() for name in names if query.get(name)}
    for name, allowed in closed.items():
        if found.get(name) and found[name] not in allowed:
            raise BadFilter(f"{name} is one of {', '.join(sorted(allowed))}.")
    if any("\x00" in value or len(value) > LONGEST for value in found.values()):
        raise BadFilter("A filter is too long or holds a character that no name has.")
    return found


def cut(
    found: QuerySet[_M], order: Order, *, size: int, after: str = "", before: str = ""
) -> Cut[_M]:
    """Return up to `size` rows on one side of a cursor. Raises BadFilter on a foreign cursor."""
    backward = bool(before)
    if order.moment:
        moment = Coalesce(order.moment, Value(order.blank))
        found = cast("QuerySet[_M]", found.alias(sort_at=moment))
    if cursor := before or after:
        found = found.filter(_beyond(_read(cursor, order), backward=backward))
    columns = ("sort_at", "name") if order.moment else ("name",)
    ways = (F(name).desc() if backward else F(name).asc() for name in columns)
    seen = list(found.order_by(*ways)[: size + 1])
    rows, more = seen[:size], len(seen) > size
    rows = rows[::-1] if backward else rows
    has_before = bool(after) or (backward and more)
    has_after = backward or more
    return Cut(
        rows=rows,
        after=_write(rows[-1], order) if rows and has_after else "",
        before=_write(rows[0], order) if rows and has_before else "",
    )


def count(found: QuerySet[Any]) -> tuple[int, bool]:
    """Return how many rows there are, at most 10,000, and whether that is exact."""
    number = found.order_by()[: EXACT_COUNT + 1].count()
    return min(number, EXACT_COUNT), number <= EXACT_COUNT


def _beyond(mark: tuple[str, str], *, backward: bool) -> Q:
    """Return the condition for rows behind a cursor, in the direction of reading."""
    name, moment = mark
    way = "lt" if backward else "gt"
    if not moment:
        return Q(**{f"name__{way}": name})
    at = datetime.fromisoformat(moment)
    return Q(**{f"sort_at__{way}": at}) | Q(**{"sort_at": at, f"name__{way}": name})


def _write(row: Any, order: Order) -> str:  # noqa: ANN401 - any model with a name.
    moment = (getattr(row, order.moment) or order.blank).isoformat() if order.moment else ""
    return signing.dumps([order.sort, row.name, moment], salt=order.salt)


def _read(cursor: str, order: Order) -> tuple[str, str]:
    """Return name and moment of a cursor. Raises BadFilter: forged, or of another order."""
    try:
        sort, name, moment = signing.loads(cursor, salt=order.salt)
    except (signing.BadSignature, ValueError) as error:
        raise BadFilter("This page address is not one that we made.") from error
    if sort != order.sort:
        raise BadFilter("This page address belongs to another order of the list.")
    return name, moment
