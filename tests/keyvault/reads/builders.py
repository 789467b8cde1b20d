"""Reads in the database, as a gateway ships them, inside the transaction of the test."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from django.db import connection

from keyvault.audit.merkle import Frontier, leaf_hash
from keyvault.audit.reads.records import VERSION, encode
from keyvault.gateway import shipping
from tests.keyvault.gateway.sample import AGENT, KEY


def record(process: UUID, seq: int, *, at: datetime | None = None, **changes: object) -> bytes:
    """Return the bytes of one read."""
    facts = {
        "agent_id": AGENT,
        "token": "abcdefgh",
        "key_id": KEY,
        "key": "billing-reader",
        "number": 3,
        "door": "key",
        "source": "192.0.2.7",
        "request": f"r{seq}",
    }
    at_us = round((at or datetime.now(UTC)).timestamp() * 1_000_000)
    return encode((VERSION, process, seq, at_us, *{**facts, **changes}.values()))


def shipped(
    count: int = 10, *, process: UUID | None = None, first: int = 1, **changes: object
) -> UUID:
    """Ship one segment of reads and return the process that it is of."""
    process = process or uuid4()
    records = [record(process, seq, **changes) for seq in range(first, first + count)]
    tree = Frontier()
    for raw in records:
        tree.append(leaf_hash(raw))
    connection.ensure_connection()
    shipping.ship(connection.connection, shipping.Run(process, first, records, tree.root()))
    return process
