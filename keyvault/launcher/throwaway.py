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
from keyvault.launcher.postgres import Cluster
from keyvault.launcher.supervisor import Supervisor


@asynccontextmanager
async def throwaway_servers() -> AsyncIterator[dict[str, str]]:
    """Run embedded servers in a temporary directory; yield the variables that lead to them.

    PostgreSQL does not sync here, and is reached as superuser: the suite makes
    databases, roles and server settings of its own. Ctrl-C is left to the
    program inside. Raises Stop.
    """
    given = {k: os.environ[k] for k in ("DATABASE_URL", "KEYVAULT_BROKER_URL") if k in os.environ}
    root = Path(tempfile.mkdtemp(prefix="kv-test-"))
    where = places.lay_out(root)
    supervisor = Supervisor(log_dir=where.log, run_dir=where.run, say=lambda _line: None)
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
    try:
        password = secrets.token_urlsafe(24)
        valkey = servers.make_valkey(where, password)
        wanted = [valkey.service()] if "KEYVAULT_BROKER_URL" not in given else []
        found = {"KEYVAULT_BROKER_URL": valkey.url()}
        if "DATABASE_URL" not in given:
            cluster = servers.make_cluster(where, password, say=lambda _line: None, fsync=False)
            wanted.append(cluster.service())
            found["DATABASE_URL"] = cluster.admin("keyvault")
        await supervisor.start(*wanted)
        if "DATABASE_URL" not in given:
            await asyncio.to_thread(_make_roles, cluster, password)
        yield {**found, **given}
    finally:
        await supervisor.stop()
        shutil.rmtree(root, ignore_errors=True)


def _make_roles(cluster: Cluster, password: str) -> None:
    roles.prepare(cluster, owner_password=password, app_password=password)
