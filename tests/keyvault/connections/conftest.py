"""A fake provider behind a Connection with a sealed admin credential, and a key to be issued."""

from itertools import count
from uuid import uuid4

import pytest
from django.db import transaction

from keyvault.connections import context
from keyvault.crypto.secret import Secret
from keyvault.providers import registry
from keyvault.providers.base import Recovery
from keyvault.vault import sealing
from tests.keyvault.connections import fakes
from tests.keyvault.vault import rows


@pytest.fixture
def _registry():
    registry.kinds()
    before = dict(registry._registry._loaded)
    yield
    registry._registry._loaded.clear()
    registry._registry._loaded.update(before)


@pytest.fixture
def recovery():
    return Recovery.CLIENT


@pytest.fixture
def fake(_registry, recovery):
    return fakes.install(fakes.Fake(recovery))


@pytest.fixture
def where(cast, fake):
    return with_credential(rows.connection(cast, provider=fake.kind), cast.now)


@pytest.fixture
def key(cast, where):
    return rows.key(cast, where)


@pytest.fixture
def request_id():
    return uuid4()


@pytest.fixture
def claims(now, request_id):
    return fakes.Claims(now, request_id)


@pytest.fixture
def world(cast, _registry):
    """Return a function that makes a fresh provider, Connection and key in this database."""
    made = count()

    def make(recovery):
        number = next(made)
        provider = fakes.install(fakes.Fake(recovery))
        connection = rows.connection(cast, provider=provider.kind, slug=f"orders-{number}")
        with_credential(connection, cast.now)
        return provider, rows.key(cast, connection, name=f"agent-{number}")

    return make


def with_credential(connection, now):
    connection.credential_number = 1
    connection.save()
    with transaction.atomic():
        sealing.put(
            context.credential_place(connection),
            {"password": Secret.of("admin-canary")},
            now=now,
        )
    return connection
