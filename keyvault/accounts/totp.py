"""Time-based one-time codes (RFC 6238) that count once: pure arithmetic over a seed."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from django_otp.oath import hotp

STEP_S = 30
DIGITS = 6
TOLERANCE = 1
SEED_BYTES = 20
_CODE = re.compile(r"[0-9]{6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Match:
    """The time step that a code belongs to, and how far that clock is off in steps."""

    step: int
    drift: int


def well_formed(code: str) -> bool:
    """Say whether `code` is exactly six ASCII digits.

    `int()` would also take "+12345", "12_34_5" and digits of other scripts.
    """
    return _CODE.fullmatch(code) is not None


def at_step(seed: bytes, step: int) -> str:
    """Return the code of one time step, six digits."""
    return f"{hotp(seed, step, digits=DIGITS):06d}"


def step_at(unix_s: float) -> int:
    """Return the time step that a moment lies in."""
    return int(unix_s) // STEP_S


def seconds_left(unix_s: float) -> int:
    """Return how long the code of this moment stays on screen, 1 to 30 seconds."""
    return STEP_S - int(unix_s) % STEP_S


def match(seed: bytes, code: str, *, unix_s: float, drift: int) -> Match | None:
    """Return the step that `code` belongs to, near this moment, or None.

    Every candidate is compared, in constant time, whichever one matches.
    """
    found = None
    for offset in range(-TOLERANCE, TOLERANCE + 1):
        step = step_at(unix_s) + drift + offset
        if step >= 0 and hmac.compare_digest(at_step(seed, step), code):
            found = Match(step=step, drift=drift + offset)
    return found
