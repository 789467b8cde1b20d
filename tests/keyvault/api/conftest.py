"""Callers of the API: a client with a bearer token for every role; and a key that is rotated by token."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from keyvault.dependents import services as dependents
from keyvault.dependents.models import Health
from keyvault.inventory.models import Key
from keyvault.rotation.models import Rotation
from tests.keyvault.actions.conftest import _registry, fake, house
from tests.keyvault.agents import builders

__all__ = ["_registry", "fake", "house"]

ROTATIONS = "/keys/ledger-reader/rotations"


@dataclass
class Caller:
    """One holder of a token; without one, nobody."""

    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, **headers: str):
        """Send one call; `body` is sent as JSON unless it is bytes."""
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body)
        given = {**self.headers, **{name.replace("_", "-"): v for name, v in headers.items()}}
        if self.text:
            given.setdefault("Authorization", f"Bearer {self.text}")
        kind = given.pop("Content-Type", "application/json")
        client = Client(raise_request_exception=False)
        return client.generic(method, path, data, content_type=kind, headers=given)

    def get(self, path: str, **headers: str):
        return self.call("GET", f"/api/v1{path}", **headers)

    def post(self, path: str, body: Any = None, **headers: str):
        return self.call("POST", f"/api/v1{path}", body, **headers)

    def delete(self, path: str, **headers: str):
        return self.call("DELETE", f"/api/v1{path}", **headers)

    def patch(self, path: str, body: Any = None, **headers: str):
        return self.call("PATCH", f"/api/v1{path}", body, **headers)


@pytest.fixture
def as_(cast):
    """Return a function that gives a caller with a fresh token of a person or an agent."""

    def caller(holder, **more) -> Caller:
        return Caller(builders.token(cast, holder, **more).text.reveal().decode())

    return caller


@pytest.fixture
def bot(cast):
    """Return alice's agent."""
    return builders.agent(cast)


@pytest.fixture
def key(house) -> Key:
    """A live key that alice owns and agents fetch."""
    return house.pull()


@pytest.fixture
def reader(house, key, bot):
    """alice's agent, which uses the key and reports what it has loaded."""
    builders.granted(house.cast, bot, key)
    with transaction.atomic():
        dependents.register(
            key=key,
            name=bot.name,
            agent_id=bot.pk,
            health=Health.REPORTS,
            now=house.now,
            actor=builders.TESTS,
        )
    return bot


def trigger(caller, *, status=201, **more):
    answer = caller.post(ROTATIONS, {"reason": "ci", "deploy_id": "d-1"} | more)
    assert answer.status_code == status, answer.content
    return answer


def running(house, caller) -> str:
    """Return the id of a rotation that was triggered and has given out its new version."""
    trigger(caller)
    house.work()
    return str(Rotation.objects.get().pk)
