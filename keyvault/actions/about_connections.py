"""What every act on a Connection that exists shares: what policies match on, and whom it concerns."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from approvals.ports import RiskPoint
from keyvault.actions import about_keys
from keyvault.connections.models import Connection
from keyvault.inventory import selectors as inventory


def attributes(row: Connection) -> Mapping[str, frozenset[str]]:
    """Return what policies match on; one that serves everywhere counts as protected."""
    reached = [row.environment] if row.environment else inventory.environments()
    is_protected = any(found.protected for found in reached)
    return {
        "environment": frozenset({found.slug for found in reached}),
        "protected": frozenset({"yes" if is_protected else "no"}),
        "provider": frozenset({row.provider}),
    }


def people(row: Connection, role: str) -> frozenset[UUID]:
    """Return the team that looks after a Connection; nobody owns one alone."""
    if role != "owner_team" or row.team is None:
        return frozenset()
    return about_keys.members(row.team.team.slug)


def protected_risk(row: Connection) -> list[RiskPoint]:
    """Return the point for a Connection that serves a protected environment, if it does."""
    if "yes" not in attributes(row)["protected"]:
        return []
    return [RiskPoint(10, "Protected environment", "It serves a protected one.")]
