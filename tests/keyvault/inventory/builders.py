"""Make keys for tests: through the services, so that grants and events come with them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from django.db import transaction

from approvals.ports import Actor
from keyvault.connections.models import Connection
from keyvault.inventory import services
from keyvault.inventory.declaration import Declaration
from keyvault.inventory.models import Key
from tests.cast import Cast

TESTS = Actor("system", "tests", "Tests")


def connection(cast: Cast, slug: str = "ledger-db", *, provider: str = "postgresql") -> Connection:
    """Return a Connection without a credential, made when it is missing."""
    config = {"host": "db.example.com", "port": "5432", "database": "ledger", "user": "keyvault"}
    row, _ = Connection.objects.get_or_create(
        slug=slug,
        defaults={
            "title": "Ledger database",
            "provider": provider,
            "config": config,
            "created_at": cast.now,
            "changed_at": cast.now,
            "inventory_due_at": cast.now,
        },
    )
    return row


def declared(**changes: object) -> Declaration:
    """Return what alice usually asks for, with changes."""
    usual = Declaration(
        name="ledger-reader",
        title="Ledger reader",
        environment="dev",
        connection="ledger-db",
        team="payments",
        purpose="Reads the ledger for the month's close.",
        options={"login_prefix": "ledger_reader", "owner_role": "reporting"},
        allowed_hosts=("db.example.com",),
    )
    return replace(usual, **changes)


def requested(cast: Cast, *, now: datetime | None = None, **changes: object) -> Key:
    """Return a key that alice has asked for, bound to a request."""
    where = connection(cast)
    with transaction.atomic():
        key = services.register(
            declared=declared(**changes),
            provider=where.provider,
            connection_id=where.pk,
            owner=cast.alice,
            now=now or cast.now,
            key_id=uuid4(),
        )
        services.bind_request(key=key, request_id=uuid4())
    return key


def live(cast: Cast, *, now: datetime | None = None, **changes: object) -> Key:
    """Return a live key of alice's, with the grants that come with it."""
    key = requested(cast, now=now, **changes)
    with transaction.atomic():
        return services.go_live(
            key_id=key.pk, request_id=key.request_id, actor=TESTS, now=now or cast.now
        )
