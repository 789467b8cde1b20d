"""A MariaDB of Debian's package on a free loopback port, and the bench before it."""

from __future__ import annotations

import os
import secrets
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pymysql

from keyvault.crypto.secret import Secret
from keyvault.providers.base import Issued
from keyvault.providers.mariadb import MariaDB
from keyvault.providers.testing import FaultProxy
from tests import certificates
from tests.contracts.benches import ProxyBench
from tests.contracts.servers import START_S
from tests.servers import free_port

BOSS = """CREATE USER root_dba@'127.0.0.1' IDENTIFIED BY '{0}';
GRANT ALL ON *.* TO root_dba@'127.0.0.1' WITH GRANT OPTION;
"""
# Exactly the rights that docs/providers/mariadb.md names, and a role to hand on.
SETUP = (
    "CREATE DATABASE shop",
    "CREATE TABLE shop.visits (id INT PRIMARY KEY AUTO_INCREMENT)",
    "CREATE ROLE shop_app",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO shop_app",
    "CREATE USER keyvault@'127.0.0.1' IDENTIFIED BY '{0}'",
    "GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO keyvault@'127.0.0.1'",
    "GRANT SELECT ON mysql.global_priv TO keyvault@'127.0.0.1'",
    "GRANT shop_app TO keyvault@'127.0.0.1' WITH ADMIN OPTION",
)


@dataclass(frozen=True, slots=True)
class MariaTarget:
    """A MariaDB that keyvault administers with an account of its own."""

    port: int
    root_password: str
    admin: str
    admin_password: str
    role: str
    log: Path
    authority: Path

    def login(self, user: str = "", password: str = "") -> pymysql.Connection:
        """Log in; without a user as who may do everything."""
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=user or "root_dba",
            password=password or self.root_password,
            autocommit=True,
            ssl_disabled=True,
        )

    def run(self, *statements: str) -> list[tuple]:
        """Run statements as who may do everything; return the rows of the last."""
        rows: list[tuple] = []
        with self.login() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
        return rows

    def accounts(self) -> list[tuple[str, str]]:
        """Return the names and hosts of the accounts with our label."""
        return self.run("SELECT User, Host FROM mysql.user WHERE User LIKE 'kv-%'")

    def clean(self) -> None:
        """Drop every account that keyvault made, with its sessions."""
        for name, host in self.accounts():
            self.run(f"KILL USER '{name}'", f"DROP USER '{name}'@'{host}'")


@contextmanager
def mariadb(directory: Path) -> Iterator[MariaTarget]:
    """Run a MariaDB for the length of the block."""
    programs = [shutil.which(name, path=_places()) for name in ("mariadb-install-db", "mariadbd")]
    if not all(programs):
        raise RuntimeError("These tests need MariaDB's server (Debian: mariadb-server).")
    install, serve = map(str, programs)
    made = certificates.make(directory, "localhost")
    root, admin = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    boss = directory / "boss.sql"
    boss.write_text(BOSS.format(root))
    data, log, port = directory / "data", directory / "server.log", free_port()
    user = ["--user=root"] if os.geteuid() == 0 else []
    subprocess.run(
        [
            *(install, "--no-defaults", *user, f"--datadir={data}", "--skip-test-db"),
            "--auth-root-authentication-method=normal",
        ],
        check=True,
        capture_output=True,
    )
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(serve, "--no-defaults", *user, f"--datadir={data}", f"--port={port}"),
                *("--bind-address=127.0.0.1", "--skip-name-resolve", f"--init-file={boss}"),
                *("--socket=server.sock", "--pid-file=server.pid", "--general-log"),
                f"--general-log-file={directory / 'general.log'}",
                *(f"--ssl-cert={made.path}", f"--ssl-key={made.key}", f"--ssl-ca={made.path}"),
                *("--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        target = MariaTarget(
            port, root, "keyvault", admin, "shop_app", directory / "general.log", made.path
        )
        _await(target, process)
        target.run(*(statement.format(admin) for statement in SETUP))
        yield target
    finally:
        process.terminate()
        process.wait(30)


def _places() -> str:
    """Return where to look for programs: servers are often kept where only root looks."""
    return f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"


def _await(target: MariaTarget, process: subprocess.Popen) -> None:
    give_up_at = time.monotonic() + START_S
    while True:
        try:
            target.login().close()
        except pymysql.OperationalError:
            if time.monotonic() > give_up_at or process.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return


@dataclass
class MariaBench(ProxyBench):
    """Accounts on the target server."""

    target: MariaTarget | None = None

    @classmethod
    def at(cls, target: MariaTarget, proxy: FaultProxy) -> MariaBench:
        return cls(
            provider=MariaDB(),
            proxy=proxy,
            config={"user": target.admin, "tls": "off"},
            options={"role": target.role, "database": "shop"},
            admin={"password": Secret.of(target.admin_password)},
            commit=rb"(?:CREATE|ALTER|DROP) USER",
            statement=rb"(?:CREATE|ALTER|DROP) USER",
            target=target,
        )

    def refusal(self, text: bytes) -> bytes:
        packet = b"\xff" + struct.pack("<H", 1227) + b"#42000" + text
        return struct.pack("<I", len(packet))[:3] + b"\x01" + packet

    @contextmanager
    def session(self, issued: Issued) -> Iterator[MariaSession]:
        assert self.target is not None
        word = issued.material["password"].reveal().decode()
        connection = self.target.login(issued.public["username"], word)
        session = MariaSession(connection)
        try:
            assert session.works()
            yield session
        finally:
            session.close()


@dataclass
class MariaSession:
    connection: pymysql.Connection

    def close(self) -> None:
        self.connection.close()

    def works(self) -> bool:
        try:
            self.run("SELECT count(*) FROM shop.visits")
        except pymysql.OperationalError:
            return False
        return True

    def run(self, statement: str, values: Sequence[object] = ()) -> list[tuple]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())


def a_tag() -> str:
    """Return the name of an attempt that was never made."""
    return f"kv-{uuid4().hex}-1"
