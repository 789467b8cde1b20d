"""Look at the use of the last 24 hours, and keep the findings about it open or closed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Max, Sum
from django.urls import reverse

from approvals.ports import Subject
from keyvault.findings import selectors as open_findings
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.inventory.models import DeliveryMode, Key
from keyvault.usage import detectors, rights, rollups
from keyvault.usage.detectors import Declared, Deviation, Use
from keyvault.usage.models import UsageHour, UsageKind

HOURS = 24
_CHUNK = 500
_OVER = "The use that showed it lies more than 24 hours back, or what was declared has changed."


def run(now: datetime) -> int:
    """Compare every key that was used lately with its declaration; return how many findings hold.

    Each key is a transaction of its own. What is over is closed.
    """
    uses = _uses_by_key(now)
    noticed = open_findings.subjects("key", kinds=detectors.KINDS)
    wanted = sorted({*uses, *(UUID(key_id) for key_id in noticed)})
    count = 0
    for start in range(0, len(wanted), _CHUNK):
        count += _watch(wanted[start : start + _CHUNK], uses, noticed, now)
    return count


def _watch(
    key_ids: Sequence[UUID],
    uses: Mapping[UUID, Sequence[Use]],
    noticed: frozenset[str],
    now: datetime,
) -> int:
    keys = rights.keys_by_id(key_ids)
    agents = {use.agent_id for key_id in key_ids for use in uses.get(key_id, ()) if use.agent_id}
    held: dict[UUID, dict[UUID, datetime | None]] = defaultdict(dict)
    for (key_id, agent_id), end in rights.held_until(key_ids, agents).items():
        held[key_id][agent_id] = end
    count = 0
    for key_id, key in keys.items():
        found = detectors.deviations(_declared(key), uses.get(key_id, ()), held[key_id])
        if found or str(key_id) in noticed:
            _settle(key, found, now)
        count += len(found)
    return count


def _settle(key: Key, found: Sequence[Deviation], now: datetime) -> None:
    """Open what holds and close what does not, for one key."""
    subject = Subject("key", str(key.pk), key.name)
    link = reverse("key-usage", args=[key.name])
    with transaction.atomic(durable=True):
        for one in found:
            findings.open(
                kind=FindingKind(one.kind),
                subject=subject,
                detail=one.detail,
                sentence=one.sentence,
                evidence={**one.evidence, "link": link},
                now=now,
            )
        for kind in detectors.KINDS:
            still = {one.detail for one in found if one.kind == kind}
            findings.close_gone(
                kind=FindingKind(kind), subject=subject, still=still, sentence=_OVER, now=now
            )


def _declared(key: Key) -> Declared:
    return Declared(
        name=key.name,
        hosts=frozenset(key.allowed_hosts),
        volume_per_day=key.volume_per_day,
        is_by_hand=key.delivery_mode == DeliveryMode.REVEAL,
    )


def _uses_by_key(now: datetime) -> Mapping[UUID, Sequence[Use]]:
    """Return the use of each key in the running hour and the 23 before it."""
    since = rollups.hour_of(now) - timedelta(hours=HOURS - 1)
    rows = (
        UsageHour.objects.filter(hour__gte=since)
        .values("key_id", "agent_id", "agent__name", "user__name", "host", "kind")
        .annotate(total=Sum("count"), newest=Max("last_at"))
    )
    found: dict[UUID, list[Use]] = defaultdict(list)
    for row in rows:
        found[row["key_id"]].append(
            Use(
                agent_id=row["agent_id"],
                who=row["agent__name"] or row["user__name"] or "Somebody unknown",
                host=row["host"] if row["host"] != rollups.OTHER_HOSTS else "",
                is_reported=row["kind"] == UsageKind.REPORTED,
                count=row["total"],
                last_at=row["newest"],
            )
        )
    return found
