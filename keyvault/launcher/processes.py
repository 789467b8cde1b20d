"""The processes of keyvault itself: console, worker, clock, and the short one that prepares."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from keyvault.launcher.children import SUPERVISED
from keyvault.launcher.supervisor import Ready, Service

CONSOLE, WORKER, CLOCK = "console", "worker", "clock"
_THREADS = 16


def django(*arguments: str) -> list[str]:
    """Return the command line of a Django management command."""
    return [sys.executable, "-P", "-m", "django", *arguments]


def console(env: Mapping[str, str], *, host: str, port: int) -> Service:
    """Return the console: one process, sixteen threads; the database is what bounds it."""
    argv = [sys.executable, "-P", "-m", "granian", "--interface", "wsgi", "--no-ws"]
    argv += ["--host", host, "--port", str(port), "--workers", "1"]
    argv += ["--blocking-threads", str(_THREADS), "--backlog", "512"]
    # A worker that died, by a fault in native code or by hand, is replaced.
    argv += ["--respawn-failed-workers", "--workers-kill-timeout", "5"]
    return Service(
        name=CONSOLE,
        argv=[*argv, "keyvault.wsgi:application"],
        env={**env, SUPERVISED: "1"},
        ready=answers(host, port),
        stop_s=10,
    )


def worker(env: Mapping[str, str]) -> Service:
    """Return one Celery worker. Threads: its work waits on other machines, not on the processor."""
    argv = [sys.executable, "-P", "-m", "celery", "-A", "keyvault", "worker", "--pool=threads"]
    argv += ["-c", str(_THREADS), "--without-gossip", "--without-mingle", "--loglevel=INFO"]
    return Service(name=WORKER, argv=argv, env=env, stop_s=20)


def clock(env: Mapping[str, str]) -> Service:
    """Return the clock: relay, sweeps, sequencer and checkpoints."""
    return Service(name=CLOCK, argv=django("clock"), env=env, stop_s=10)


def answers(host: str, port: int) -> Ready:
    """Return a probe that asks whether the console's own health page says 200."""
    asked = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound

    async def probe() -> bool:
        try:
            reader, writer = await asyncio.open_connection(asked, port)
        except OSError:
            return False
        try:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = await asyncio.wait_for(reader.readline(), 5)
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()
        return b" 200 " in status

    return probe
