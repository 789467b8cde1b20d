"""Callers of the API: a client with a bearer token for every role."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.test import Client

from tests.keyvault.actions.conftest import _registry, fake, house
from tests.keyvault.agents import builders

__all__ = ["_registry", "fake", "house"]


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
