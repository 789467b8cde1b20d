"""Who is behind the current call: set once at the door, read by the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a call came from. Empty strings mean "not over the network"."""

    ip: str = ""
    user_agent: str = ""
    correlation_id: str = ""
    session: str = ""
    on_behalf_of: str = ""


_NOWHERE = Origin()
_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


def current() -> Origin:
    """Return the origin of the call in progress."""
    return _origin.get() or _NOWHERE


@contextmanager
def origin(value: Origin) -> Iterator[None]:
    """Set the origin for the calls inside the block."""
    token = _origin.set(value)
    try:
        yield
    finally:
        _origin.reset(token)
