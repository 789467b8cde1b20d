"""A key of a GitHub App before the fake of its vendor, an agent that may use it, and a worker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from keyvault.agents.models import AccessToken, Agent
from keyvault.connections import context
from keyvault.connections.models import Connection
from keyvault.crypto.secret import Secret
from keyvault.inventory.models import Grant, Key
from keyvault.leases import handover, services, sweep
from keyvault.leases.models import Lease
from keyvault.plugins.faults import FaultProxy
from keyvault.vault import sealing
from keyvault.vault.models import Sealed
from tests.contracts.vendors.github_server import GitHubServer
from tests.contracts.vendors.server import serving
from tests.keyvault.actions.conftest import House, _registry, fake, house
from tests.keyvault.agents import builders
from tests.keyvault.vault import rows

__all__ = ["_registry", "fake", "house"]
OPTIONS = {"permissions": "contents:write issues:read", "repositories": "shop"}


@dataclass
class Shop:
    """An agent that may use a key of the app, and what its server knows."""

    house: House
    server: GitHubServer
    proxy: FaultProxy
    where: Connection
    key: Key
    agent: Agent
    grant: Grant
    token: AccessToken

    @property
    def now(self) -> datetime:
        return self.house.now

    def take(self, **more: Any) -> handover.Lent:
        return services.take(
            **{"token": self.token, "name": self.key.name, "now": self.now, **more}
        )

    def give_back(self, lease: Lease, *, after_s: float = 5) -> Lease:
        at = self.now + timedelta(seconds=after_s)
        return services.give_back(token=self.token, lease_id=lease.pk, now=at)

    def work(self, *, after_s: float = 0) -> None:
        """Do what the clock and the worker do at a moment."""
        self.house.now += timedelta(seconds=after_s)
        sweep.run(self.house.now)
        self.house.work()

    def living(self) -> int:
        """Return how many tokens the app's server accepts."""
        return sum(len(found.tokens) for found in self.server.installations.values())

    def state(self, lease: Lease) -> str:
        return Lease.objects.get(pk=lease.pk).state

    def sealed(self) -> int:
        return Sealed.objects.filter(subject_kind="lease").count()


@pytest.fixture
def server():
    with serving(GitHubServer()) as running:
        yield running


@pytest.fixture
def proxy(server):
    with FaultProxy("127.0.0.1", server.port) as between:
        yield between


@pytest.fixture
def lending(cast, house, server, proxy) -> Connection:
    return github(cast, server, proxy.port)


@pytest.fixture
def shop(cast, house, server, proxy, lending) -> Shop:
    key = house.pull(name="shop-repository", connection=lending.slug, options=OPTIONS)
    agent = builders.agent(cast)
    grant = builders.granted(cast, agent, key)
    token = builders.token(cast, agent, ttl_s=3600).token
    return Shop(house, server, proxy, lending, key, agent, grant, token)


def github(cast, server: GitHubServer, port: int, slug: str = "github") -> Connection:
    """Return a Connection to an installation at the fake, with the app's private key."""
    address = f"http://127.0.0.1:{port}"
    config = {
        "url": address,
        "app": server.app,
        "installation": str(server.add_installation().number),
    }
    made = rows.connection(
        cast,
        provider="github_app",
        slug=slug,
        environment=cast.dev,
        config=config,
        allowed_hosts=[address],
        credential_number=1,
    )
    with transaction.atomic():
        place = context.credential_place(made)
        sealing.put(place, {"private_key": Secret.of(server.pem)}, now=cast.now)
    return made
