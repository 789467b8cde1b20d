"""Make keys that gateways deliver: live, with a sealed version, granted to an agent."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import uuid4

from django.db import transaction

from keyvault.agents.models import Agent
from keyvault.crypto.secret import Secret
from keyvault.inventory.models import DeliveryMode, Grant, Key
from keyvault.vault import services as vault
from keyvault.vault.services import Credential
from tests.cast import Cast
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders as inventory


@dataclass
class Deal:
    """An agent, its key, the grant between them and a token."""

    agent: Agent
    key: Key
    grant: Grant
    token: str
    issued: object

    @property
    def headers(self) -> dict[str, str]:
        """What a request of the agent carries."""
        return {"Authorization": f"Bearer {self.token}"}


def delivered(cast: Cast, name: str = "ledger-reader", value: str = "s3cret-1", **more) -> Key:
    """Return a live key that is delivered by API, with a current version."""
    key = inventory.live(cast, name=name)
    Key.objects.filter(pk=key.pk).update(delivery_mode=DeliveryMode.PULL)
    add_version(cast, key, value, **more)
    return key


def add_version(
    cast: Cast, key: Key, value: str, *, public: Mapping[str, str] | None = None, **more: str
):
    """Store a new version and make it current; return it. `public`: what is no secret of it."""
    material = {"value": Secret.of(value)} | {k: Secret.of(v) for k, v in more.items()}
    credential = Credential(
        remote_id=f"remote-{uuid4()}", remote={}, public=public or {}, material=material
    )
    with transaction.atomic():
        version = vault.begin(
            key_id=key.pk, request_id=uuid4(), server={}, now=cast.now, actor=agents.TESTS
        )
        vault.store(
            version_id=version.pk,
            credential=credential,
            provider="manual",
            now=cast.now,
            actor=agents.TESTS,
        )
        return vault.promote(version_id=version.pk, now=cast.now, actor=agents.TESTS)


def deal(cast: Cast, name: str = "ledger-reader", value: str = "s3cret-1", **more) -> Deal:
    """Return an agent that may read a key, and a token of it."""
    key, agent = delivered(cast, name, value, **more), agents.agent(cast)
    grant, issued = agents.granted(cast, agent, key), agents.token(cast, agent)
    return Deal(agent, key, grant, issued.text.reveal().decode(), issued)


def until(probe, seconds: float = 30):
    """Return what `probe` returns once it is true; fail when that takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = probe()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it never came true")
