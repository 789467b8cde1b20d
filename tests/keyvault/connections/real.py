"""Connections to real servers of their own, whose admins belong to nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import redis
from django.db import transaction

from keyvault.connections import context
from keyvault.crypto.secret import Secret
from keyvault.vault import sealing
from tests.contracts import servers
from tests.keyvault.vault import rows


@dataclass
class Place:
    """A server whose admin belongs to one Connection."""

    provider: str
    config: dict[str, Any]
    port: int
    password: str
    target: Any

    def lets_in(self, word: str) -> bool:
        """Say whether the server takes a password of the admin."""
        try:
            if self.provider == "postgresql":
                psycopg.connect(self.target.dsn(self.target.admin, word)).close()
            else:
                client = redis.Redis(port=self.port, username=self.target.admin, password=word)
                with client:
                    client.execute_command("TIME")
        except (psycopg.OperationalError, redis.AuthenticationError):
            return False
        return True


@pytest.fixture
def postgresql_place(tmp_path):
    with servers.postgresql(tmp_path) as target:
        config = {"user": target.admin, "database": "postgres", "tls": "disable"}
        yield Place("postgresql", config, target.port, target.admin_password, target)


@pytest.fixture
def valkey_place(tmp_path):
    with servers.valkey(tmp_path) as target:
        config = {"user": target.admin, "tls": "off"}
        yield Place("valkey", config, target.port, target.admin_password, target)


@pytest.fixture(params=["postgresql_place", "valkey_place"])
def place(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def where(cast, place):
    return connect(cast, place)


def connect(cast, place):
    """Return a Connection to a server, with the admin's password sealed."""
    made = rows.connection(
        cast,
        provider=place.provider,
        config={"host": "127.0.0.1", "port": str(place.port), **place.config},
        allowed_hosts=[f"127.0.0.1:{place.port}"],
        credential_number=1,
    )
    with transaction.atomic():
        admin = {"password": Secret.of(place.password)}
        sealing.put(context.credential_place(made), admin, now=cast.now)
    return made
