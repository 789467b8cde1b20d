"""The mark beside the secrets: a variable that says which version of ours they hold. Pure.

GitHub shows no secret again, only when it was last written. The mark holds a
version's id together with those times, so that a secret which somebody wrote
later no longer counts as ours. It is unsettled while secrets are being written:
then it names what was and what is to be, and either may hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from keyvault.destinations.base import Observed

_NOTHING, _TO = "-", ">"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the variable says. `former` counts only while it is unsettled."""

    version_id: str
    written: str = ""
    former: str | None = None
    is_settled: bool = True

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read the variable's text; None where it is not of this form."""
        first, *rest = text.split() or [""]
        if rest[:1] == [_TO] and len(rest) > 1:
            return cls(rest[1], former=None if first == _NOTHING else first, is_settled=False)
        return cls(first, " ".join(rest)) if rest else None

    def text(self) -> str:
        """Return the variable's text."""
        if self.is_settled:
            return f"{self.version_id} {self.written}"
        return f"{self.former or _NOTHING} {_TO} {self.version_id}"


def stamp(written: Mapping[str, str]) -> str:
    """Return when each secret was last written as one line without a secret."""
    return " ".join(f"{name}@{written[name]}" for name in sorted(written))


def observed(mark: Mark | None, written: Mapping[str, str]) -> Observed:
    """Return what is live by the mark and by the times of the secrets that exist."""
    etag = stamp(written)
    if mark is not None and not mark.is_settled:
        return Observed(mark.former, etag=etag)
    if not written:
        return Observed(None)
    is_ours = mark is not None and mark.written == etag
    return Observed(mark.version_id if mark and is_ours else None, not is_ours, etag=etag)
