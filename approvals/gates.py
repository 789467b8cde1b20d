"""Name the gate of a view; the host's middleware reads the name and enforces it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

View = TypeVar("View", bound=Callable[..., object])

SIGNED_IN = "signed in"


def gated(name: str) -> Callable[[View], View]:
    """Mark a view with the name of its gate. A view without one is closed to everybody."""

    def mark(view: View) -> View:
        view.gate = name  # type: ignore[attr-defined]
        return view

    return mark
