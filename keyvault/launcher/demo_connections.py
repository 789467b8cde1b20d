"""The demo's Connections: to the demo's own target servers, and one that a person serves by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from approvals.ports import Actor
from keyvault.connections import drafts, services
from keyvault.connections.drafts import Draft
from keyvault.launcher import demo
from keyvault.launcher.demo import Targets
from keyvault.providers import registry


def make(directory: Path, *, actor: Actor, now: datetime) -> None:
    """Make the Connections in the caller's transaction, with their admin credentials sealed."""
    for draft, credential in _wanted(demo.load(directory)):
        provider, proposal = registry.provider(draft.provider), uuid4()
        fingerprint = services.propose(proposal_id=proposal, credential=credential, now=now)
        services.create(
            connection_id=uuid4(),
            draft=drafts.clean(draft, schema=provider.config_schema),
            fingerprint=fingerprint,
            proposal_id=proposal,
            request_id=None,
            actor=actor,
            now=now,
        )


def _wanted(targets: Targets) -> Iterator[tuple[Draft, Mapping[str, str]]]:
    host, port = targets.host, targets.postgres_port
    yield (
        Draft(
            slug="northwind-db",
            title="Northwind orders (PostgreSQL)",
            provider="postgresql",
            config={
                "host": host,
                "port": str(port),
                "database": demo.DATABASE,
                "user": demo.ADMIN,
                "tls": "disable",
                "owner_role": demo.OWNER,
            },
            allowed_hosts=(f"{host}:{port}",),
        ),
        {"password": targets.password},
    )
    port = targets.valkey_port
    yield (
        Draft(
            slug="northwind-cache",
            title="Northwind cache (Valkey)",
            provider="valkey",
            config={"host": host, "port": str(port), "user": demo.ADMIN, "tls": "off"},
            allowed_hosts=(f"{host}:{port}",),
        ),
        {"password": targets.valkey_password},
    )
    yield (
        Draft(
            slug="by-hand",
            title="Vendors without a program",
            provider="manual",
            config={"where": "The vendor's own console; ask the platform team for access."},
        ),
        {},
    )
