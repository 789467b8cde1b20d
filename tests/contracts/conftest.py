"""One server of each kind for the whole run; each test gets its own corner of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keyvault.providers.testing import FaultProxy
from tests.contracts import servers
from tests.contracts.benches import PostgresBench


@pytest.fixture(scope="session")
def postgres_target(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[servers.PostgresTarget]:
    with servers.postgresql(tmp_path_factory.mktemp("postgresql")) as target:
        yield target


@pytest.fixture
def postgres_bench(postgres_target: servers.PostgresTarget) -> Iterator[PostgresBench]:
    with FaultProxy("127.0.0.1", postgres_target.port) as proxy:
        yield PostgresBench.at(postgres_target, proxy)
    postgres_target.clean()
