"""What the client keeps in memory, and for how long it may be used. Pure arithmetic on times.

Times are seconds since 1970. A value is used unasked while it is young; while
the server is away it is used for as long as its answer allows, and no longer.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from keyvault.client.values import Value
from keyvault.crypto.secret import Secret

# Where an answer names no end and nothing was configured: long enough for a restart.
STALE_S = 300.0
# A token is renewed when this part of its life is over, earlier by up to the jitter,
# so that many agents that started together do not come together.
RENEW_AT, JITTER = 0.8, 0.2
_FINE = 1_000_000


@dataclass(frozen=True, slots=True)
class Held:
    """A value and when the server last said that it holds."""

    value: Value
    checked_at: float

    def is_young(self, now: float, refresh_s: float) -> bool:
        """Say whether it is used without asking."""
        return now < self.checked_at + refresh_s and now < self._end()

    def is_usable(self, now: float, stale_for_s: float | None) -> bool:
        """Say whether it may still be served while the server is away."""
        end = self._end()
        if stale_for_s is not None:
            end = min(end, self.checked_at + stale_for_s)
        elif end == float("inf"):
            end = self.checked_at + STALE_S
        return now < end

    def _end(self) -> float:
        ends = (self.value.expires_at, self.value.not_after)
        return min((at.timestamp() for at in ends if at is not None), default=float("inf"))


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token, when a new one is due and when this one ends."""

    text: Secret
    renew_at: float
    expires_at: float

    @classmethod
    def lasting(cls, text: str, *, lifetime_s: float, now: float) -> Bearer:
        """Return a token just received; each is renewed at a moment of its own."""
        spread = JITTER * secrets.randbelow(_FINE) / _FINE
        renew_at = now + lifetime_s * (RENEW_AT - spread)
        return cls(Secret.of(text), renew_at, now + lifetime_s)
