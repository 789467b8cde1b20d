"""A key at a Connection, and a keyring that the tests may replace."""

from uuid import uuid4

import pytest

from tests.keyvault.vault import rows


@pytest.fixture
def where(cast):
    return rows.connection(cast)


@pytest.fixture
def key(cast, where):
    return rows.key(cast, where)


@pytest.fixture
def request_id():
    return uuid4()


@pytest.fixture
def live(key, request_id, now):
    return rows.live_version(key, request_id, now)
