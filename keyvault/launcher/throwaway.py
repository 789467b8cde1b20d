"""Servers for tests and benchmarks: quick, private, and gone afterwards."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from keyvault.launcher import places, roles, servers
from keyvault.launcher.places import Places
from keyvault.launcher.supervisor import Supervisor


@asynccontextmanager
async def throwaway_servers(*, fsync: bool = False) -> AsyncIterator[dict[str, str]]:
    """Run embedded servers in a temporary directory; yield the variables that lead to them.

    PostgreSQL syncs only where `fsync` asks for it, as a measurement must: its
    commits then cost what they cost in an installation. It is reached as
    superuser: the suite makes databases, roles and server settings of its own.
    Ctrl-C is left to the program inside. Raises Stop.
    """
    root = Path(tempfile.mkdtemp(prefix="kv-test-"))
    where = places.lay_out(root)
    supervisor = Supervisor(log_dir=where.log, run_dir=where.run, say=_quietly)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    try:
        database = await _database(supervisor, where, fsync=fsync)
        queue = await _queue(supervisor, where)
        own = {"KEYVAULT_DATA_DIR": str(root / "data"), "KEYVAULT_KEYS_DIR": str(root / "keys")}
        yield {**database, **queue, **own}
    finally:
        await supervisor.stop()
        shutil.rmtree(root, ignore_errors=True)


async def _database(supervisor: Supervisor, where: Places, *, fsync: bool) -> dict[str, str]:
    if "DATABASE_URL" in os.environ:
        return {}
    password = secrets.token_urlsafe(24)
    cluster = servers.make_cluster(where, password, say=_quietly, fsync=fsync)
    await supervisor.start(cluster.service())
    # Migrations grant to these roles where they exist, as they do in an installation.
    await asyncio.to_thread(roles.prepare, cluster, owner_password=password, app_password=password)
    return {"DATABASE_URL": cluster.admin(roles.DATABASE)}


async def _queue(supervisor: Supervisor, where: Places) -> dict[str, str]:
    if "KEYVAULT_BROKER_URL" in os.environ:
        return {}
    valkey = servers.make_valkey(where, secrets.token_urlsafe(24))
    await supervisor.start(valkey.service())
    return {"KEYVAULT_BROKER_URL": valkey.url()}


def _quietly(_line: str) -> None:
    """Say nothing: the output belongs to the program inside."""
