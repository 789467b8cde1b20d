"""Gateways on the database of the tests, and a ledger that signs."""

from __future__ import annotations

import pytest

from tests.keyvault.audit.conftest import signer
from tests.keyvault.gateway import harness

__all__ = ["signer"]  # Fixtures are found by name here.


@pytest.fixture(scope="module")
def gateway(django_db_setup, keys, tmp_path_factory):
    """Return a running gateway that the tests of a module share which do it no harm.

    It ends with the module, or whoever waits for gateways elsewhere would wait for it, too.
    It still knows what earlier tests have made; a flush takes rows away without
    a trigger. Every test therefore asks with an agent and tokens of its own.
    """
    with harness.shared(tmp_path_factory.mktemp("gateway"), keys.path) as started:
        yield started[0]
