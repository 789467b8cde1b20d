"""The trust strip: what this installation says about itself, in three honest lines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a dot (ok, warn, bad or "" for unknown), what it is about, and its state."""

    dot: str
    label: str
    text: str


def lines(now: datetime) -> list[Line]:
    """Return the lines for ledger, work and vault."""
    return [
        Line("", "Ledger", "unknown"),
        Line("", "Work", "unknown"),
        Line("", "Vault", "unknown"),
    ]
