"""What is known of each gateway: whether it may answer, and how far it has heard."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import TextChoices

from keyvault.invalidation.services import LEASE, LIVE

_MOST, MOST_BEHIND = 50, 1000

# The database judges by its own clock, as `services.wait` does.
_GATEWAYS = f"""
SELECT name, address, audit_mode, version, started_at, seen_at,
    CASE WHEN ended_at IS NOT NULL THEN 'ended' WHEN {LIVE} THEN 'live' ELSE 'silent' END,
    CASE WHEN ended_at IS NOT NULL THEN 0 ELSE
        (SELECT count(*) FROM (SELECT FROM keyvault_rightchange
         WHERE xact >= pg_snapshot_xmin(applied::pg_snapshot)::text::bigint
             AND NOT pg_visible_in_snapshot(xact::text::xid8, applied::pg_snapshot)
         LIMIT {MOST_BEHIND}) AS missed) END
FROM keyvault_gatewayinstance ORDER BY ended_at IS NOT NULL, started_at DESC LIMIT {_MOST}
"""  # noqa: S608 - constants of this module only


class GatewayState(TextChoices):
    """LIVE is waited for; SILENT has stopped answering by itself; ENDED has said goodbye."""

    LIVE = "live", "Live"
    SILENT = "silent", "Silent"
    ENDED = "ended", "Ended"


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway process. `behind`: changes of rights that it has not confirmed, 1,000 at most."""

    name: str
    address: str
    audit_mode: str
    version: str
    started_at: datetime
    seen_at: datetime
    state: GatewayState
    behind: int

    @property
    def is_far_behind(self) -> bool:
        """Say whether there may be more changes than were counted."""
        return self.behind >= MOST_BEHIND


def gateways() -> list[Gateway]:
    """Return the gateways of the last hour, those that run first, 50 at most."""
    with connection.cursor() as cursor:
        cursor.execute(_GATEWAYS, [LEASE.total_seconds(), True])
        return [
            Gateway(name, address, mode, version, started_at, seen_at, GatewayState(state), behind)
            for name, address, mode, version, started_at, seen_at, state, behind in cursor
        ]
