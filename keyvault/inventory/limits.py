"""How long a key may live, and how long one value of it may last, where it is used (pure)."""

from __future__ import annotations

from dataclasses import dataclass

SANDBOX = "sandbox"
WEEK, QUARTER = 7, 92


@dataclass(frozen=True, slots=True)
class Limits:
    """The longest spans allowed, in days."""

    lifetime_days: int
    cadence_days: int


_SANDBOX = Limits(lifetime_days=30, cadence_days=30)
_PROTECTED = Limits(lifetime_days=180, cadence_days=90)
_ELSEWHERE = Limits(lifetime_days=365, cadence_days=180)


@dataclass(frozen=True, slots=True)
class Excess:
    """A declared span that is longer than allowed, with the nearest one that is."""

    field: str
    sentence: str
    nearest: int


def limits(*, environment: str, protected: bool) -> Limits:
    """Return the limits of an environment; a protected one is never treated as a sandbox."""
    if protected:
        return _PROTECTED
    return _SANDBOX if environment == SANDBOX else _ELSEWHERE


def excesses(
    *, environment: str, protected: bool, lifetime_days: int, cadence_days: int
) -> tuple[Excess, ...]:
    """Return what is declared beyond the limits; nothing when all is within them."""
    allowed = limits(environment=environment, protected=protected)
    found = []
    if lifetime_days > allowed.lifetime_days:
        sentence = f"A key in {environment} lives at most {allowed.lifetime_days} days."
        found.append(Excess("lifetime_days", sentence, allowed.lifetime_days))
    if cadence_days > allowed.cadence_days:
        sentence = f"A value in {environment} lasts at most {allowed.cadence_days} days."
        found.append(Excess("cadence_days", sentence, allowed.cadence_days))
    return tuple(found)


def span_class(lifetime_days: int) -> str:
    """Return the class of a lifetime that policies match on: week, quarter or longer."""
    if lifetime_days <= WEEK:
        return "week"
    return "quarter" if lifetime_days <= QUARTER else "longer"
