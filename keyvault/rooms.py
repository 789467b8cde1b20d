"""Rooms with a few places: whoever finds none is told at once, and waits for nobody.

What may take long keeps a thread of its process for that long. A room bounds how
many threads it keeps, and how many of them one caller has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class Room:
    """The places of this process, and who has them: one caller at most `each`."""

    def __init__(self, places: int, *, each: int = 1) -> None:
        self._lock, self._places, self._each = Lock(), places, each
        self._inside: Counter[str] = Counter()

    @contextmanager
    def place(self, whose: str) -> Iterator[bool]:
        """Hold a place for the block; yields whether there was one."""
        with self._lock:
            has = self._inside.total() < self._places and self._inside[whose] < self._each
            if has:
                self._inside[whose] += 1
        try:
            yield has
        finally:
            if has:
                with self._lock:
                    # Whoever has no place any more is not kept by name.
                    self._inside -= Counter({whose: 1})
