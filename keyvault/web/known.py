"""Read a part of a page that must not take the rest of the page down with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from django.db import DatabaseError

log = logging.getLogger(__name__)
_T = TypeVar("_T")


def known(what: str, read: Callable[[], _T]) -> _T | None:
    """Return what `read` returns, or None with a log line when the database fails.

    The caller shows None as "unknown", never as nothing and never as well.
    """
    try:
        return read()
    except DatabaseError:
        log.exception("page.unknown: %s", what)
        return None
