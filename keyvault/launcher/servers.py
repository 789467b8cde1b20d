"""PostgreSQL and Valkey of one data directory: start what nobody else provides."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from keyvault.launcher import children, postgres, roles
from keyvault.launcher.installation import Installation, make_private_dir
from keyvault.launcher.places import Places
from keyvault.launcher.postgres import Cluster
from keyvault.launcher.supervisor import Supervisor
from keyvault.launcher.valkey import Valkey

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the database and the queue server are. `owner` migrates, `app` serves."""

    owner: str
    app: str
    queue: str


async def start(
    supervisor: Supervisor, places: Places, facts: Installation, *, say: Say
) -> Servers:
    """Start the embedded servers, except those that the environment names.

    Raises Stop with a sentence.
    """
    database, queue = os.environ.get("DATABASE_URL"), os.environ.get("KEYVAULT_BROKER_URL")
    cluster = None if database else make_cluster(places, facts.superuser_password, say=say)
    valkey = None if queue else make_valkey(places, facts.queue_password)
    began = time.monotonic()
    embedded = [server.service() for server in (cluster, valkey) if server is not None]
    await supervisor.start(*embedded)
    if embedded:
        say(f"{' and '.join(s.name for s in embedded)} up in {time.monotonic() - began:.1f} s")
    if cluster is None:
        owner, app = os.environ.get("KEYVAULT_MIGRATE_DATABASE_URL") or database, database
    else:
        urls = await asyncio.to_thread(
            roles.prepare,
            cluster,
            owner_password=facts.owner_password,
            app_password=facts.app_password,
        )
        owner, app = urls.owner, urls.app
    return Servers(owner or "", app or "", queue or (valkey.url() if valkey else ""))


def make_cluster(places: Places, password: str, *, say: Say, fsync: bool = True) -> Cluster:
    """Return the cluster of a data directory, made at its first start. Raises Stop."""
    data = places.root / "postgres"
    cluster = Cluster(
        "postgresql", postgres.find(data), data, places.sockets, password, None, fsync
    )
    postgres.hand_over(places.sockets)
    if not cluster.exists():
        began = time.monotonic()
        cluster.make()
        say(f"PostgreSQL {cluster.binaries.major} cluster made in {time.monotonic() - began:.1f} s")
    return cluster


def make_valkey(places: Places, password: str) -> Valkey:
    """Return the queue server of a data directory."""
    data = make_private_dir(places.root / "valkey")
    return Valkey("valkey", data, places.sockets / "valkey.sock", password)


def end_leftovers(places: Places, *, say: Say) -> None:
    """End what a killed supervisor may have left; call it with the lock held."""
    left = children.end_leftovers(places.run)
    if left:
        say(f"ended what an earlier start had left behind: {', '.join(left)}")
