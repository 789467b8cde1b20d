"""Fixtures that every test may use: the cast, signed-in clients, keys, and a quick flush."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management.commands import flush
from django.db import connections, transaction
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser

from approvals import ports
from keyvault.accounts.models import User
from keyvault.accounts.presence import Presence
from keyvault.agents.directory import Directory
from keyvault.api import limits
from keyvault.audit import ledger
from keyvault.crypto import digest, keyring, keys_dir
from tests import cast as people
from tests.browser.harness import chromium
from tests.servers import empty_stack, stack

__all__ = ["empty_stack", "stack"]  # Fixtures are found by name here.

KEPT = ("django_content_type", "auth_permission", "django_migrations")


class Unlimited:
    """A budget of wraps that never ends."""

    def spend(self, kek_id: bytes) -> None:
        """Count nothing."""


def pytest_configure() -> None:
    """Make the directory that the static files middleware expects; a start fills it."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> keys_dir.Keys:
    """Return the keys of the installation under test."""
    path: Path = tmp_path_factory.mktemp("keys") / "keys"
    keys_dir.create(path)
    return keys_dir.load(path)


@pytest.fixture(scope="session")
def _ring(keys: keys_dir.Keys) -> keyring.Keyring:
    return keyring.load(f"file:{keys.path / 'kek'}", environ={}, budget=Unlimited())


@pytest.fixture(autouse=True)
def installation(keys: keys_dir.Keys, _ring: keyring.Keyring) -> Iterator[keyring.Keyring]:
    """Unseal the process and bind approvals to this host, anew for each test."""
    keyring.install(_ring)
    digest.install(keys.index)
    ports.bind(recorder=ledger, signer=keys.receipt, directory=Directory(), presence=Presence())
    yield _ring
    keyring.install(_ring)


@pytest.fixture(autouse=True)
def _full_buckets() -> None:
    """Let each test begin as a new process does: nobody has asked for anything yet."""
    limits.buckets.clear()


@pytest.fixture
def now() -> datetime:
    """Return the moment of the test."""
    return timezone.now()


@pytest.fixture
def cast(request: pytest.FixtureRequest, now: datetime) -> people.Cast:
    """Return the cast, made in the database of this test."""
    marker = request.node.get_closest_marker("django_db")
    real = marker is not None and marker.kwargs.get("transaction")
    request.getfixturevalue("transactional_db" if real else "db")
    return people.assemble(now=now)


@pytest.fixture
def totp() -> Callable[[User], str]:
    """Return a function that gives a person's current, acceptable code."""
    return people.totp_code


@pytest.fixture
def client_for() -> Callable[[User], Client]:
    """Return a function that gives a test client with a verified session of a person."""
    return lambda user: people.sign_in(Client(), user)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return the one Chromium of the session; a second driver in this thread would refuse."""
    # Playwright keeps an event loop in this thread; the ORM calls of the tests do not run on it.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with chromium() as started:
        yield started


def _empty(command: flush.Command, *, database: str, **_: Any) -> None:
    """Delete what the tables hold, with triggers off: the ledger refuses to be emptied, also by a test.

    In place of TRUNCATE: that takes ten times as long where a table holds a few rows, and
    locks every table, so that a gateway which outlives one test could deadlock with it.
    Content types and permissions stay, which spares making them anew.
    """
    connection = connections[database]
    with transaction.atomic(using=database), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        names = connection.introspection.django_table_names(only_existing=True, include_views=False)
        cursor.execute(
            " UNION ALL ".join(f"(SELECT '{name}' FROM \"{name}\" LIMIT 1)" for name in names)
        )
        for (name,) in cursor.fetchall():
            if name not in KEPT:
                cursor.execute(f'DELETE FROM "{name}"')


flush.Command.handle = _empty
