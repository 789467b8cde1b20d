"""Know when a committed change holds on every gateway, and forget what all of them have heard.

A change is effective once each live gateway has applied a snapshot in which its
transaction is visible. A gateway that has not been seen for `LEASE` counts as
gone: it has stopped answering by itself (see `keyvault.gateway`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection

from keyvault.invalidation.models import GatewayInstance, RightChange

LEASE = timedelta(seconds=1)
KEEP = timedelta(hours=1)
_POLL_S = 0.004

# Takes LEASE in seconds, and whether a gateway that may serve stale answers lives that much longer.
LIVE = (
    "ended_at IS NULL AND seen_at + (%s + CASE WHEN %s THEN stale_max_s ELSE 0 END)"
    " * interval '1 second' > clock_timestamp()"
)
_WAITING = (
    f"SELECT count(*), count(*) FILTER (WHERE NOT"  # noqa: S608 - constants of this module only
    f" pg_visible_in_snapshot(%s::text::xid8, applied::pg_snapshot))"
    f" FROM keyvault_gatewayinstance WHERE {LIVE}"
)


@dataclass(frozen=True, slots=True)
class Effect:
    """How a change has spread: live gateways, those still to hear of it, seconds waited."""

    gateways: int
    waiting: int
    took_s: float

    @property
    def is_everywhere(self) -> bool:
        """Say whether no live gateway acts on what was before."""
        return self.waiting == 0

    @property
    def sentence(self) -> str:
        """Return what a page says of it."""
        if not self.gateways:
            return "No gateway is running."
        if self.is_everywhere:
            return f"Effective on all gateways after {self.took_s * 1000:.0f} ms."
        return (
            f"{self.waiting} of {self.gateways} gateways have not confirmed yet; "
            f"one that stays silent stops answering within {LEASE.total_seconds():.0f} s."
        )


def transaction_id() -> int:
    """Return the number of the current transaction, to wait for after its commit."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::bigint")
        return int(cursor.fetchone()[0])


def wait(xact: int, *, timeout_s: float = 2.0, is_gain: bool = False) -> Effect:
    """Wait until a committed transaction holds on every live gateway, or the time is over.

    is_gain: the transaction gave a right and took none, so that a gateway which has fallen
    silent is not waited for, however long it may go on answering: there the right is missing.

    Call it after the commit, outside any transaction: inside one, PostgreSQL
    would still answer, and the wait would hold its locks.
    """
    began = time.monotonic()
    while True:
        gateways, waiting = _count(xact, with_stale=not is_gain)
        took_s = time.monotonic() - began
        if not waiting or took_s >= timeout_s:
            return Effect(gateways, waiting, took_s)
        time.sleep(_POLL_S)


def forget(*, now: datetime) -> int:
    """Delete changes that no running gateway can ask for; return how many.

    A gateway that was away for longer loads everything anew.
    """
    GatewayInstance.objects.filter(seen_at__lt=now - KEEP).delete()
    deleted, _ = RightChange.objects.filter(at__lt=now - KEEP).delete()
    return deleted


def _count(xact: int, *, with_stale: bool) -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [str(xact), LEASE.total_seconds(), with_stale])
        gateways, waiting = cursor.fetchone()
    return int(gateways), int(waiting)
