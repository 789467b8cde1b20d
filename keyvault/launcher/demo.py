"""The demo's own servers, and what a demo refuses to be.

A second PostgreSQL cluster and a second Valkey, on loopback, play the servers
whose keys are managed. They are never keyvault's own, so that creating and
revoking is real from the first minute.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from keyvault.launcher import installation, ports, postgres, roles
from keyvault.launcher.installation import Installation
from keyvault.launcher.places import Places
from keyvault.launcher.postgres import Cluster
from keyvault.launcher.sentences import Stop
from keyvault.launcher.supervisor import Supervisor
from keyvault.launcher.valkey import Valkey

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SPLIT_MEMBERSHIP = 160000
ADMIN, OWNER, DATABASE = "keyvault_admin", "northwind_owner", "northwind"
# Just what docs/providers names: it makes and ends users, and reads no data.
_VALKEY_RIGHTS = (
    "resetchannels -@all +acl|setuser +acl|getuser +acl|users +acl|deluser +acl|save"
    " +config|rewrite +client|list +client|kill +time"
)
_TABLE = """
CREATE TABLE IF NOT EXISTS orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text NOT NULL,
    cents bigint NOT NULL CHECK (cents > 0),
    placed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO orders (customer, cents)
    SELECT 'customer ' || n, 100 * n FROM generate_series(1, 20) AS n
    WHERE NOT EXISTS (SELECT FROM orders);
"""


@dataclass(frozen=True, slots=True)
class Targets:
    """How the demo's Connections reach the servers they manage."""

    host: str
    postgres_port: int
    valkey_port: int
    password: str
    valkey_password: str


def refuse_unless_private(host: str) -> None:
    """Raise Stop where a demo could be mistaken for, or reach, something real."""
    if host not in LOOPBACK:
        raise Stop(f"--demo binds to loopback only, not to {host}. Leave out --host.", code=2)
    for name in ("KEYVAULT_PUBLIC_URL", "DATABASE_URL", "KEYVAULT_BROKER_URL"):
        if os.environ.get(name):
            raise Stop(f"--demo brings everything itself and refuses {name}. Unset it.", code=2)


async def start_targets(supervisor: Supervisor, places: Places, facts: Installation) -> Targets:
    """Start the servers whose keys the demo manages. Raises Stop."""
    targets = _obtain(places.root, facts)
    data = installation.make_private_dir(places.root / "target")
    sockets = installation.make_private_dir(places.sockets / "target")
    postgres.hand_over(sockets)
    cluster = Cluster(
        name="target-postgresql",
        binaries=postgres.find(data / "postgres"),
        data=data / "postgres",
        sockets=sockets,
        password=facts.superuser_password,
        port=targets.postgres_port,
    )
    if not cluster.exists():
        cluster.make()
    valkey = Valkey(
        name="target-valkey",
        data=installation.make_private_dir(data / "valkey"),
        socket=sockets / "valkey.sock",
        password=targets.valkey_password,
        port=targets.valkey_port,
        user=ADMIN,
        rights=_VALKEY_RIGHTS,
    )
    await supervisor.start(cluster.service(), valkey.service())
    await asyncio.to_thread(_fill, cluster, targets)
    return targets


def load(directory: Path) -> Targets:
    """Return the targets of a demo that has been started. Raises OSError."""
    return Targets(**json.loads((directory / "targets.json").read_text(encoding="utf-8")))


def note_urls(directory: Path, *, console: str, gateway: str) -> None:
    """Keep the addresses in demo.json true when the ports have changed."""
    path = directory / "demo.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    told = {**facts, "url": console, "gateway": gateway}
    if told != facts:
        installation.write_private(path, json.dumps(told, indent=1))


def _obtain(directory: Path, facts: Installation) -> Targets:
    """Decide the ports once: the Connections keep them."""
    try:
        return load(directory)
    except FileNotFoundError:
        pass
    database, queue = ports.free(2)
    targets = Targets(
        "127.0.0.1", database, queue, facts.target_password, facts.target_queue_password
    )
    installation.write_private(directory / "targets.json", json.dumps(asdict(targets), indent=1))
    return targets


def _fill(cluster: Cluster, targets: Targets) -> None:
    """Make the admin that may create roles, the owner role, and a database with a table."""
    import psycopg  # noqa: PLC0415 - heavy, and only a start needs it

    with psycopg.connect(cluster.admin(), autocommit=True) as link:
        # The password of one that is there may be keyvault's own by now.
        if not link.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ADMIN]).fetchone():
            roles.ensure_role(link, ADMIN, targets.password, rights="CREATEROLE")
        if not link.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [OWNER]).fetchone():
            link.execute(f"CREATE ROLE {OWNER} NOLOGIN")
        may_say = link.info.server_version >= _SPLIT_MEMBERSHIP
        how = "ADMIN TRUE, INHERIT FALSE, SET FALSE" if may_say else "ADMIN OPTION"
        link.execute(f"GRANT {OWNER} TO {ADMIN} WITH {how}")
        there = link.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if not there.fetchone():
            link.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
    with psycopg.connect(cluster.admin(DATABASE), autocommit=True) as link:
        link.execute(f"SET ROLE {OWNER}")
        link.execute(_TABLE)
