"""What every long list shows around its rows: chips, active filters, and the way to the next page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

from django.urls import reverse


class Filters(Protocol):
    """The filters of a list. `active` are those that narrow it."""

    @property
    def sort(self) -> str:
        """Return the name of the order."""

    @property
    def active(self) -> tuple[tuple[str, str], ...]:
        """Return names and values."""


class Page(Protocol):
    """One page of a list. `after` and `before` are cursors, empty at the ends."""

    @property
    def after(self) -> str:
        """Return the cursor of the page behind."""

    @property
    def before(self) -> str:
        """Return the cursor of the page ahead."""

    @property
    def count(self) -> int:
        """Return how many rows all pages have."""

    @property
    def is_exact(self) -> bool:
        """Say whether `count` is that number, or only the least it can be."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A list under one address. `chips` are slug, label and query of the filters at one click."""

    route: str
    one: str
    many: str
    chips: Sequence[tuple[str, str, str]]

    def around(self, filters: Filters, page: Page, counts: Mapping[str, int]) -> dict[str, Any]:
        """Return `page`, `chips` and `tokens` for the template of a list."""
        return {
            "page": self._pager(filters, page),
            "chips": self._chips(filters, counts),
            "tokens": self._tokens(filters),
        }

    def _pager(self, filters: Filters, page: Page) -> dict[str, str]:
        count = f"{page.count:,}" if page.is_exact else f"more than {page.count:,}"
        return {
            "newer": self._address(filters, before=page.before) if page.before else "",
            "older": self._address(filters, after=page.after) if page.after else "",
            "note": f"{count} {self.one if page.count == 1 else self.many}",
        }

    def _chips(self, filters: Filters, counts: Mapping[str, int]) -> list[dict[str, Any]]:
        now = urlencode(filters.active)
        return [
            {
                "label": label,
                "href": f"{reverse(self.route)}?{query}" if query else reverse(self.route),
                "count": counts[slug],
                "is_current": query == now,
            }
            for slug, label, query in self.chips
        ]

    def _tokens(self, filters: Filters) -> list[dict[str, str]]:
        """Return the active filters, each with the address of the list without it."""
        return [
            {"name": name, "value": value, "without": self._address(filters, drop=name)}
            for name, value in filters.active
        ]

    def _address(self, filters: Filters, *, drop: str = "", **more: str) -> str:
        query = dict(filters.active) | ({"sort": filters.sort} if filters.sort != "name" else {})
        query.pop(drop, None)
        text = urlencode(query | more)
        return f"{reverse(self.route)}?{text}" if text else reverse(self.route)
