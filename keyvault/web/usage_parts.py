"""Prepare the use of a key or of an agent for its pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keyvault.agents import access as agents_access
from keyvault.agents import selectors as agents
from keyvault.findings import selectors as findings
from keyvault.inventory import access
from keyvault.usage import detectors, rollups, selectors
from keyvault.web import geometry, parts

if TYPE_CHECKING:
    from keyvault.accounts.models import User
    from keyvault.agents.models import Agent
    from keyvault.inventory.models import Key
    from keyvault.usage.selectors import Bucket, Usage

OTHERS = "further hosts"
_EVERY_HOURS = 6


@dataclass(frozen=True, slots=True)
class Card:
    """The use of the last 30 days in one drawing, with its sentence."""

    last_at: datetime | None
    trend: Sequence[int]
    label: str
    total: int


@dataclass(frozen=True, slots=True)
class Load:
    """What was used within 24 hours against what was declared for a day."""

    used: int
    declared: int
    shares: Sequence[tuple[float, str]]
    label: str

    @property
    def is_over(self) -> bool:
        """Say whether more was used than declared."""
        return self.used > self.declared


def card(key: Key, *, now: datetime) -> Card:
    """Return the use of a key for its overview."""
    return _card(selectors.days_of(key.pk, now=now), selectors.last_use(key.pk))


def of_key(person: User, key: Key, *, now: datetime) -> dict[str, Any]:
    """Return everything that the usage section of a key shows."""
    usage = selectors.usage_of(key.pk, since=selectors.first_day(now), now=now)
    return shown(key, usage, declared=key.volume_per_day) | {
        "agents_seen": agents.names_seen(person, [part.id for part in usage.by_user if part.id]),
        "reports": selectors.latest_reports(key.pk, now=now),
        "notices": [
            finding
            for finding in findings.for_subject("key", str(key.pk))
            if finding.kind in detectors.KINDS
        ],
    }


def shown(key: Key, usage: Usage, *, declared: int) -> dict[str, Any]:
    """Return the use of a key as drawings and rows. declared: uses a day."""
    return {
        "usage": usage,
        "use": _card(usage.by_day, usage.last_at),
        "hours": _hours(usage),
        "hours_label": _hours_label(usage),
        "load": load(usage, declared),
        "hosts": [(part, _host(key, part)) for part in usage.by_host],
    }


def of_agent(person: User, agent: Agent, *, now: datetime) -> dict[str, Any]:
    """Return the use by an agent, of those keys that this reader may know of."""
    since = selectors.first_day(now)
    keys = None
    if not agents_access.answers_for(person, agent):
        used = selectors.keys_used_by(agent.pk, since=since)
        keys = access.visible_keys(person).filter(pk__in=used).values_list("pk", flat=True)
    usage = selectors.usage_by(agent.pk, since=since, now=now, keys=keys)
    return {"usage": usage, "card": _card(usage.by_day, usage.last_at)}


def load(usage: Usage, declared: int) -> Load:
    """Return the use of 24 hours against the declared volume of a day: reports, or else reads."""
    used = max(usage.reported_day, usage.read_day)
    css = "sv-bad" if used > declared else "sv-ok"
    label = f"{parts.number(used)} uses in 24 hours, {parts.number(declared)} declared for a day"
    return Load(used, declared, [(used, css), (max(declared - used, 0), "sv-bg")], label)


def _card(days: Sequence[Bucket], last_at: datetime | None) -> Card:
    trend = [bucket.count for bucket in days]
    busiest = max(days, key=lambda bucket: bucket.count)
    label = f"{parts.number(sum(trend))} uses in 30 days"
    if busiest.count:
        label += f", most on {geometry.day(busiest.at)}: {parts.number(busiest.count)}"
    return Card(last_at, trend, f"{label}.", sum(trend))


def _hours(usage: Usage) -> Sequence[geometry.Column]:
    labels = [
        f"{bucket.at:%H:%M}" if bucket.at.hour % _EVERY_HOURS == 0 else ""
        for bucket in usage.by_hour
    ]
    return geometry.histogram([(bucket.count, 0) for bucket in usage.by_hour], labels=labels)


def _hours_label(usage: Usage) -> str:
    total = sum(bucket.count for bucket in usage.by_hour)
    return f"{parts.number(total)} uses in 24 hours, by hour (UTC)."


def _host(key: Key, part: selectors.Part) -> dict[str, Any]:
    """Return how a host is shown, and whether a call to it was not declared."""
    is_called = part.kind == "reported"
    is_many = part.name == rollups.OTHER_HOSTS
    return {
        "name": OTHERS if is_many else part.name,
        "verb": "Called" if is_called else "Read from",
        "is_strange": is_called
        and not is_many
        and not detectors.is_allowed(part.name, key.allowed_hosts),
    }
