"""Draw a QR code as one SVG path: no image, no inline style, nothing for the policy to refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import segno

QUIET = 4  # Modules of white around the code (ISO/IEC 18004 section 9.1).


@dataclass(frozen=True, slots=True)
class Drawing:
    """A square of `size` modules a side, and the path that is dark in it."""

    size: int
    path: str


def draw(text: str) -> Drawing:
    """Return the drawing of a text, at medium error correction."""
    rows = [tuple(row) for row in segno.make(text, error="m", micro=False).matrix]
    path = "".join(run for y, row in enumerate(rows) for run in _runs(row, y))
    return Drawing(size=len(rows) + 2 * QUIET, path=path)


def _runs(row: Sequence[int], y: int) -> Iterator[str]:
    """Yield one rectangle for each run of dark modules in a row."""
    x = 0
    for is_dark, run in groupby(row, key=bool):
        length = len(list(run))
        if is_dark:
            yield f"M{x + QUIET} {y + QUIET}h{length}v1h-{length}z"
        x += length
