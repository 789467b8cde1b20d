"""Make use of keys for tests: segments of reads as a gateway ships them, and sums."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import psycopg
from django.db import transaction

from keyvault.audit.reads.records import VERSION, Record, encode
from keyvault.gateway.shipping import Run, ship
from keyvault.usage import rollups
from keyvault.usage.models import UsageKind
from keyvault.usage.rollups import Place, Tally
from tests.keyvault.gateway.reading import database_url


def segment(
    at: datetime,
    *,
    key_id: UUID,
    agent_id: UUID,
    count: int = 1,
    source: str = "192.0.2.7",
    process: UUID | None = None,
    first: int = 1,
) -> UUID:
    """Ship `count` reads of one process, a second apart, by the gateway's own statement."""
    process = process or uuid4()
    micros = int(at.timestamp() * 1_000_000)
    records = [
        encode(
            Record(
                VERSION, process, first + n, micros + n * 1_000_000, agent_id, "token",
                key_id, "ledger-reader", 1, "key", source, f"r{n}",
            )
        )
        for n in range(count)
    ]  # fmt: skip
    with psycopg.connect(database_url(), autocommit=True) as link:
        ship(link, Run(process, first, records, bytes(32)))
    return process


def used(
    at: datetime,
    *,
    key_id: UUID,
    agent=None,
    user=None,
    host: str = "",
    count: int = 1,
    kind: str = UsageKind.REPORTED,
) -> None:
    """Add to one sum."""
    place = Place(key_id, rollups.hour_of(at), agent and agent.pk, user and user.pk, host, kind)
    with transaction.atomic():
        rollups.add([Tally(place, count, at)])


def hours_before(now: datetime, hours: int) -> datetime:
    """Return a moment some hours ago."""
    return now - timedelta(hours=hours)
