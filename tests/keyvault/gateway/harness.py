"""Real gateways for tests: granian in a process of its own, on the database of the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
from django.conf import settings
from django.db import connection

from keyvault.launcher import children
from keyvault.launcher.installation import ROOT
from tests import cleartext
from tests.servers import free_port

APPLICATION = ["tests.keyvault.gateway.served:application"]
# With the log of reads that an installation has.
REAL = ["--factory", "keyvault.gateway.main:application"]
READY_S = 30


def database_url() -> str:
    """Return the address of the database that the tests of this process use."""
    facts = connection.get_connection_params()
    parts = {
        "host": facts.get("host"),
        "port": facts.get("port"),
        "user": facts.get("user"),
        "password": facts.get("password"),
    }
    query = "&".join(f"{name}={value}" for name, value in parts.items() if value)
    return f"postgresql:///{facts['dbname']}?{query}"


@dataclass
class Gateway:
    """One running gateway."""

    directory: Path
    keys: Path
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    application: list[str] = field(default_factory=lambda: APPLICATION)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def segments(self) -> Path:
        """The directory of the real log of reads."""
        return self.directory / f"segments-{self.port}"

    @property
    def lines(self) -> Path:
        """The file of its read log."""
        return self.directory / f"reads-{self.port}.txt"

    def logged(self) -> list[str]:
        """Return what its read log holds."""
        return self.lines.read_text().splitlines() if self.lines.exists() else []

    def output(self) -> str:
        """Return what it has written to its own log."""
        return (self.directory / f"gateway-{self.port}.log").read_text()

    def start(self) -> Gateway:
        """Start it and return once it is ready."""
        env = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "KEYVAULT_LISTEN_DATABASE_URL": database_url(),
            "KEYVAULT_KEYS_DIR": str(self.keys),
            "KEYVAULT_KEK": f"file:{self.keys / 'kek'}",
            "KEYVAULT_DATA_DIR": str(settings.DATA_DIR),
            "KEYVAULT_TESTS_READS": str(self.lines),
            "KEYVAULT_GATEWAY_SEGMENT_DIR": str(self.segments),
            "PYTHONPATH": str(ROOT),
            **self.environment,
        }
        argv = [sys.executable, "-P", "-m", "granian", "--interface", "rsgi", "--no-ws"]
        argv += ["--http", "1", "--http1-buffer-size", "65536", "--port", str(self.port)]
        argv += ["--http1-header-read-timeout", "5000"]
        with (self.directory / f"gateway-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, *self.application],
                env={**env, children.SUPERVISED: "1"},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                preexec_fn=children.dying_with(signal.SIGKILL),  # noqa: PLW1509
            )
        self.await_status(200)
        return self

    def await_status(self, status: int, seconds: float = READY_S) -> None:
        """Wait until `/readyz` says `status`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if cleartext.get(f"{self.url}/readyz", timeout=2).status_code == status:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"the gateway never said {status}:\n{self.output()}")

    def worker(self) -> int:
        """Return the process id of the one that serves."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(found.split()[0])

    def kill(self) -> None:
        """End it as a power cut would."""
        os.kill(self.worker(), signal.SIGKILL)
        self.process.kill()
        self.process.wait(15)

    def stop(self) -> None:
        """End it."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(15)


# The tables that a gateway writes to by itself.
WRITTEN = (
    "keyvault_gatewayinstance",
    "keyvault_denial",
    "keyvault_loadedversion",
    "keyvault_usagedue",
    "keyvault_readsegment",
    "keyvault_readevent",
)


@contextmanager
def running(
    directory: Path,
    keys: Path,
    count: int = 1,
    *,
    application: list[str] | None = None,
    **environment: str,
) -> Iterator[list[Gateway]]:
    """Run gateways until the block ends."""
    place = directory / uuid4().hex
    place.mkdir()
    served = application or APPLICATION
    gateways = [
        Gateway(place, keys, environment=environment, application=served) for _ in range(count)
    ]
    try:
        yield [gateway.start() for gateway in gateways]
    finally:
        for gateway in gateways:
            gateway.stop()


@contextmanager
def shared(
    directory: Path, keys: Path, count: int = 1, **environment: str
) -> Iterator[list[Gateway]]:
    """Run gateways for the tests of one module, and leave no row of theirs to those of the next."""
    try:
        with running(directory, keys, count, **environment) as started:
            yield started
    finally:
        # What they wrote as they ended: the rows of the last test are gone by then.
        with psycopg.connect(database_url(), autocommit=True) as link:
            link.execute("SET session_replication_role = replica")
            for table in WRITTEN:
                link.execute(f"DELETE FROM {table}")
