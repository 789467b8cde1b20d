"""Fixtures of the flows: a house of people before a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.context import ForkServerContext

import pytest
from django.db import transaction

from keyvault.connections import context
from keyvault.crypto import keys_dir
from keyvault.crypto.secret import Secret
from keyvault.launcher.installation import ROOT
from keyvault.providers.testing import FaultProxy
from keyvault.vault import sealing, seals
from tests.contracts import servers
from tests.flows import worker
from tests.flows.house import RealHouse
from tests.keyvault.actions import rules
from tests.keyvault.gateway.harness import database_url
from tests.keyvault.vault import rows
from tests.servers import Stack, free_port

# Long enough for whoever is there to move, short enough to wait for whoever is not.
IMPATIENT = {"KEYVAULT_ROTATION_GRACE_SECONDS": "8", "KEYVAULT_ROTATION_QUIET_SECONDS": "1"}


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.PostgresTarget]:
    with servers.postgresql(tmp_path_factory.mktemp("target")) as running:
        yield running


@pytest.fixture(scope="session")
def impatient_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A demo whose rotations wait for dependents for seconds, and for one second of silence."""
    root = tmp_path_factory.mktemp("impatient")
    running = Stack(root / "data", root / "keys", free_port(), ("--demo",), IMPATIENT)
    yield running.start()
    running.stop()


@pytest.fixture(scope="session")
def workers(django_db_setup: None, keys: keys_dir.Keys) -> ForkServerContext:
    """Return what starts worker processes on the database and the keys of the tests."""
    return worker.parent(
        {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": database_url(),
            "KEYVAULT_KEYS_DIR": str(keys.path),
            "PYTHONPATH": str(ROOT),
        }
    )


@pytest.fixture
def _registered(transactional_db, installation) -> None:
    """Register the suite's key before anything is sealed, as a first start does.

    Without it a worker process would find sealed values of an unknown key and start sealed.
    """
    seals.guard(installation)


@pytest.fixture
def real_house(_registered, cast, target, workers, now) -> Iterator[RealHouse]:
    """Return a house whose Connection leads, through a fault proxy, to a real server."""
    rules.DEFAULTS.put(now)
    with FaultProxy("127.0.0.1", target.port) as proxy:
        address = f"127.0.0.1:{proxy.port}"
        where = rows.connection(
            cast,
            provider="postgresql",
            environment=cast.dev,
            config={
                "host": "127.0.0.1",
                "port": str(proxy.port),
                "database": "postgres",
                "user": target.admin,
                "tls": "disable",
            },
            allowed_hosts=[address],
            credential_number=1,
        )
        with transaction.atomic():
            sealing.put(
                context.credential_place(where),
                {"password": Secret.of(target.admin_password)},
                now=now,
            )
        yield RealHouse(cast, now, target, proxy, workers)
    target.clean()
