"""One server of each kind for the whole run; each test gets its own corner of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyvault.providers.testing import FaultProxy
from tests.contracts import aws_servers, servers
from tests.contracts.aws_bench import IamBench, SecretBench
from tests.contracts.benches import PostgresBench, ValkeyBench

SERVERS = ["wheel"]
if servers.installed_postgres() is not None:
    SERVERS.append(pytest.param("installed", marks=pytest.mark.slow))


@pytest.fixture(scope="session", params=SERVERS)
def postgres_target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.PostgresTarget]:
    """Run the wheel's PostgreSQL, and the machine's own, which is often an older one."""
    programs = servers.wheel_postgres()
    if request.param == "installed":
        programs = servers.installed_postgres()
    with servers.postgresql(tmp_path_factory.mktemp("postgresql"), programs) as target:
        yield target


@pytest.fixture
def postgres_bench(postgres_target: servers.PostgresTarget) -> Iterator[PostgresBench]:
    with FaultProxy("127.0.0.1", postgres_target.port) as proxy:
        yield PostgresBench.at(postgres_target, proxy)
    postgres_target.clean()


@pytest.fixture(scope="session")
def valkey_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.ValkeyTarget]:
    with servers.valkey(tmp_path_factory.mktemp("valkey")) as target:
        yield target


@pytest.fixture
def valkey_bench(valkey_target: servers.ValkeyTarget) -> Iterator[ValkeyBench]:
    with FaultProxy("127.0.0.1", valkey_target.port) as proxy:
        yield ValkeyBench.at(valkey_target, proxy)
    valkey_target.clean()


@pytest.fixture
def bench_with_files(tmp_path: Path) -> Iterator[tuple[ValkeyBench, Path]]:
    """A Valkey of one test alone, with an ACL file and a configuration file, and where they are."""
    with (
        servers.valkey(tmp_path, config="valkey.conf") as target,
        FaultProxy("127.0.0.1", target.port) as proxy,
    ):
        yield ValkeyBench.at(target, proxy), tmp_path


@pytest.fixture(scope="session")
def aws_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[aws_servers.AwsTarget]:
    with aws_servers.moto(tmp_path_factory.mktemp("moto")) as target:
        yield target


@pytest.fixture
def iam_bench(aws_target: aws_servers.AwsTarget) -> Iterator[IamBench]:
    with FaultProxy("127.0.0.1", aws_target.port) as proxy:
        yield IamBench.at(aws_target, proxy)


@pytest.fixture
def secret_bench(aws_target: aws_servers.AwsTarget) -> Iterator[SecretBench]:
    with FaultProxy("127.0.0.1", aws_target.port) as proxy:
        yield SecretBench.at(aws_target, proxy)
