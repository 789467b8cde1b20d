"""How risky a declared key is: signed points with evidence that add up to 0 to 100 (pure).

Each rule gives at most one point line. The weights are chosen so that no sum
leaves 0 to 100; a test adds up both ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from approvals.ports import RiskPoint
from keyvault.inventory import limits

NEW_REQUESTER_DAYS = 30
LONG_DAYS, SHORT_DAYS = 90, limits.WEEK
MANY_CALLS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """The facts that the risk of a key hangs on. `known_days`: how long we know the asker."""

    environment: str
    protected: bool
    lifetime_days: int
    cadence_days: int
    has_backup: bool
    allowed_hosts: tuple[str, ...]
    volume_per_day: int
    external_input: bool
    read_by_person: bool
    known_days: int


@dataclass(frozen=True, slots=True)
class Relief:
    """A change of one field of the form that lowers the risk. `points` is negative."""

    field: str
    value: str
    title: str
    points: int
    score: int


def points(exposure: Exposure) -> tuple[RiskPoint, ...]:
    """Return the points of a key, heaviest first; they add up to its score."""
    found = [RiskPoint(5, "One more credential", "Every key is a way in until it is revoked.")]
    found += [point for rule in _RULES if (point := rule(exposure))]
    return tuple(sorted(found, key=lambda point: -point.points))


def score(exposure: Exposure) -> int:
    """Return the risk of a key, 0 to 100."""
    return sum(point.points for point in points(exposure))


def reliefs(exposure: Exposure) -> tuple[Relief, ...]:
    """Return the changes that would lower the risk, the largest effect first."""
    before = score(exposure)
    found = []
    for field, value, title, milder in _milder(exposure):
        after = score(milder)
        if after < before:
            found.append(Relief(field, value, title, after - before, after))
    return tuple(sorted(found, key=lambda relief: relief.points))


def _milder(exposure: Exposure) -> list[tuple[str, str, str, Exposure]]:
    return [
        (
            "lifetime_days",
            str(LONG_DAYS),
            f"Let it live {LONG_DAYS} days",
            replace(exposure, lifetime_days=min(exposure.lifetime_days, LONG_DAYS)),
        ),
        (
            "lifetime_days",
            str(SHORT_DAYS),
            f"Let it live {SHORT_DAYS} days",
            replace(exposure, lifetime_days=min(exposure.lifetime_days, SHORT_DAYS)),
        ),
        (
            "cadence_days",
            str(LONG_DAYS),
            f"Change its value every {LONG_DAYS} days",
            replace(exposure, cadence_days=min(exposure.cadence_days, LONG_DAYS)),
        ),
        (
            "volume_per_day",
            str(MANY_CALLS),
            f"Declare at most {MANY_CALLS:,} calls a day",
            replace(exposure, volume_per_day=min(exposure.volume_per_day, MANY_CALLS)),
        ),
    ]


def _environment(exposure: Exposure) -> RiskPoint | None:
    if not exposure.protected:
        return None
    return RiskPoint(25, "Protected environment", f"{exposure.environment} is marked protected.")


def _lifetime(exposure: Exposure) -> RiskPoint | None:
    days = exposure.lifetime_days
    if days > LONG_DAYS:
        return RiskPoint(15, "Lives long", f"{days} days; {LONG_DAYS} or fewer are usual.")
    if days <= SHORT_DAYS:
        return RiskPoint(-5, "Lives briefly", f"It ends by itself after {days} days.")
    return None


def _cadence(exposure: Exposure) -> RiskPoint | None:
    days = min(exposure.cadence_days, exposure.lifetime_days)
    if days <= LONG_DAYS:
        return None
    return RiskPoint(5, "Value changes rarely", f"One value lasts {days} days.")


def _backup(exposure: Exposure) -> RiskPoint | None:
    if exposure.has_backup:
        return None
    return RiskPoint(10, "No backup owner", "Nobody looks after it when its owner leaves.")


def _hosts(exposure: Exposure) -> RiskPoint | None:
    if not exposure.allowed_hosts:
        return RiskPoint(15, "Any host", "No allowed host is named, so no use looks wrong.")
    wide = [host for host in exposure.allowed_hosts if host.startswith("*.")]
    if wide:
        return RiskPoint(10, "Wide hosts", f"{', '.join(wide)} covers hosts nobody listed.")
    return None


def _input(exposure: Exposure) -> RiskPoint | None:
    if not exposure.external_input:
        return None
    return RiskPoint(10, "Reads outside text", "What the agent reads may try to steer it.")


def _volume(exposure: Exposure) -> RiskPoint | None:
    if exposure.volume_per_day <= MANY_CALLS:
        return None
    return RiskPoint(5, "Many calls", f"{exposure.volume_per_day:,} a day hide a misuse well.")


def _reader(exposure: Exposure) -> RiskPoint | None:
    if not exposure.read_by_person:
        return None
    return RiskPoint(5, "A person reads the value", "It may stay in a clipboard or a file.")


def _asker(exposure: Exposure) -> RiskPoint | None:
    if exposure.known_days >= NEW_REQUESTER_DAYS:
        return None
    return RiskPoint(5, "New asker", f"Member of the team for {exposure.known_days} days.")


_RULES: tuple[Callable[[Exposure], RiskPoint | None], ...] = (
    _environment,
    _lifetime,
    _cadence,
    _backup,
    _hosts,
    _input,
    _volume,
    _reader,
    _asker,
)
