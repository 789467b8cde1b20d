"""Listings that come in pages of `data`, `has_more` and `last_id`, as several vendors have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from keyvault.plugins.errors import Transient
from keyvault.plugins.values import JSON
from keyvault.providers.values import Page

_T = TypeVar("_T")
_MOST_PAGES = 200


def page(answer: Mapping[str, JSON], after: str | None, read: Callable[[JSON], _T]) -> Page[_T]:
    """Return the entries of one answer, each as `read` has it, and the cursor of the next page.

    `after` is the cursor that was sent. Raises Transient on an answer that makes no sense,
    one that would lead to the same page again among them.
    """
    entries, last_id = answer.get("data"), answer.get("last_id")
    if not isinstance(entries, list):
        raise Transient("The API gave no usable listing.")
    if answer.get("has_more") is not True:
        return Page(tuple(map(read, entries)))
    if not isinstance(last_id, str) or not last_id or last_id == after:
        raise Transient("The API gave a listing that does not go on.")
    return Page(tuple(map(read, entries)), last_id)


def every(read: Callable[[str | None], Page[_T]]) -> Iterator[_T]:
    """Yield all items, page by page. Raises Transient on a listing without end."""
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        found = read(cursor)
        yield from found.items
        if found.cursor is None:
            return
        cursor = found.cursor
    raise Transient("The listing does not end.")
