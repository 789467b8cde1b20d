"""Gateways on the database of the tests."""

from __future__ import annotations

import pytest

from tests.keyvault.gateway import harness


@pytest.fixture(scope="session")
def gateway(django_db_setup, keys, tmp_path_factory):
    """Return the one running gateway that tests share which do it no harm.

    It still knows what earlier tests have made; a flush takes rows away without
    a trigger. Every test therefore asks with an agent and tokens of its own.
    """
    with harness.running(tmp_path_factory.mktemp("gateway"), keys.path) as started:
        yield started[0]
