"""Answers on the terminal: aligned for people, JSON for programs, harmless in any case."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Print one line for each row under the titles of `columns` (field to title)."""
    cells = [list(columns.values())]
    cells += [[plain(row.get(name)) for name in columns] for row in rows]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    for line in cells:
        print(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        )


def facts(found: Mapping[str, Any]) -> None:
    """Print one line for each fact that is there."""
    width = max(map(len, found), default=0)
    for name, value in found.items():
        if value is not None and value != "":
            print(f"{name.ljust(width)}  {plain(value)}")


def as_json(found: object) -> None:
    """Print a value for programs."""
    print(json.dumps(found, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def plain(value: object) -> str:
    """Return text that cannot steer a terminal: controls and formatting marks become U+FFFD.

    What people wrote elsewhere is printed here, so it may be hostile (R22).
    """
    text = "" if value is None else str(value)
    return "".join("\N{REPLACEMENT CHARACTER}" if _steers(letter) else letter for letter in text)


def _steers(letter: str) -> bool:
    return unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
