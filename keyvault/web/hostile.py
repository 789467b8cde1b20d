"""Make text that somebody else wrote safe to read: nothing in it may hide or act.

Escaping is the template engine's work. What is left for here are characters
that a browser draws as nothing or that reorder their neighbours: they turn a
harmless looking sentence into another one, so they are shown by number.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import groupby

LIMIT = 4000

_HIDING = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_PLAIN = frozenset("\n\t")
# Letters and marks that draw nothing although Unicode does not class them as format characters.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of text. A hidden one holds the names of its characters (U+202E)."""

    text: str
    hidden: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """Text cut to `LIMIT` characters and split into visible and hidden runs."""

    runs: tuple[Run, ...]
    cut: int


def is_hidden(character: str) -> bool:
    """Say whether a character draws nothing or reorders what stands beside it."""
    if character in _PLAIN:
        return False
    return (
        unicodedata.category(character) in _HIDING
        or character in _BLANK
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )


def shown(text: object) -> Shown:
    """Split any value's text for display; carriage returns before newlines are dropped."""
    whole = str(text).replace("\r\n", "\n")
    runs = [
        Run(" ".join(f"U+{ord(c):04X}" for c in part) if hidden else "".join(part), hidden)
        for hidden, group in groupby(whole[:LIMIT], key=is_hidden)
        for part in [list(group)]
    ]
    return Shown(tuple(runs), max(len(whole) - LIMIT, 0))
