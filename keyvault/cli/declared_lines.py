"""Where in a TOML file something stands, for the sentences about it. Pure.

The standard library reads TOML without telling lines, so the headers and the
names before `=` are looked for in the text. What is not found that way (a table
within one line) is told by the line of what it stands in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

Path = tuple[str | int, ...]
_HEADER = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_ASSIGNED = re.compile(
    r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


class Lines:
    """The lines of one file by the path of what stands there."""

    def __init__(self, text: str) -> None:
        """Look through the text once."""
        self._known: dict[Path, int] = {}
        for path, number in _found(text):
            for end in range(1, len(path) + 1):
                self._known.setdefault(path[:end], number)

    def of(self, *path: str | int) -> int:
        """Return the line of a path, or of the nearest thing that it stands in; 1 for neither."""
        for end in range(len(path), 0, -1):
            if path[:end] in self._known:
                return self._known[path[:end]]
        return 1


def _found(text: str) -> Iterator[tuple[Path, int]]:
    table: Path = ()
    counts: Counter[Path] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _within(_parts(header[2]), counts)
            if header[1] == "[[":
                counts[table] += 1
                table = (*table, counts[table] - 1)
            yield table, number
        elif assigned := _ASSIGNED.match(line):
            yield table + _parts(assigned[1]), number


def _within(path: Path, counts: Counter[Path]) -> Path:
    """Return a path with the place of each list of tables on its way: the last one so far."""
    whole: Path = ()
    for at, part in enumerate(path):
        whole = (*whole, part)
        if at < len(path) - 1 and counts[whole]:
            whole = (*whole, counts[whole] - 1)
    return whole


def _parts(text: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(text))
