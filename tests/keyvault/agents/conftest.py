"""A running issuer, trusted and bound to an agent, and a process that knows no keys yet."""

from __future__ import annotations

import pytest

from keyvault.agents import issuers
from tests.keyvault.agents import builders, local_issuer


@pytest.fixture
def issuer():
    with local_issuer.running() as running:
        yield running


@pytest.fixture(autouse=True)
def key_sets(monkeypatch):
    """Let each test begin as a new process does: knowing no keys."""
    fresh = issuers.KeySets()
    monkeypatch.setattr(issuers, "key_sets", fresh)
    return fresh


@pytest.fixture
def agent(cast):
    return builders.agent(cast)


@pytest.fixture
def trust(cast, issuer, agent):
    found = local_issuer.trusted(issuer, now=cast.now)
    local_issuer.bound(found, agent, now=cast.now)
    return found
