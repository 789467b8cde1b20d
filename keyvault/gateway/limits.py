"""How many answers a second an agent and a source may have, counted in whole seconds.

A fixed window costs a quarter of a microsecond and lets at most two windows'
worth through in a second; what it protects is the process, not a quota.
"""

from __future__ import annotations

from collections.abc import Hashable

from keyvault.gateway.clock import ticks


class TooMany(Exception):
    """The rate is used up. Try again after `retry_s` seconds."""

    def __init__(self) -> None:
        super().__init__("Too many requests. Wait a second and go on more slowly.")
        self.retry_s = 1


class Rate:
    """At most `limit` of each subject in any one second. Its memory is that of one second."""

    __slots__ = ("_counts", "_limit", "_second")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._counts: dict[Hashable, int] = {}

    def count(self, subject: Hashable) -> None:
        """Count one. Raises TooMany."""
        second = int(ticks())
        if second != self._second:
            self._second = second
            self._counts.clear()
        count = self._counts.get(subject, 0) + 1
        self._counts[subject] = count
        if count > self._limit:
            raise TooMany
