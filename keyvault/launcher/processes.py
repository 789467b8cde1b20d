"""The processes of keyvault itself: console, gateway, worker, clock, and the short one that prepares."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from keyvault.environment import integer
from keyvault.launcher.children import SUPERVISED
from keyvault.launcher.supervisor import Ready, Service

CONSOLE, GATEWAY, WORKER, CLOCK = "console", "gateway", "worker", "clock"
_THREADS = 16
# What a client of the gateway may take up: bytes of a request's head, milliseconds until
# it has arrived (also between two requests of one connection), and connections at once.
_HEAD_BYTES, _HEAD_MS, _CONNECTIONS = 65_536, 30_000, 1024


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


def gateway(env: Mapping[str, str], *, host: str, port: int) -> Service:
    """Return the gateway: each of its processes answers from its own memory."""
    count = integer("KEYVAULT_GATEWAY_PROCESSES", 1, low=1, high=64)
    return Service(
        name=GATEWAY,
        argv=gateway_command(host, port, count=count),
        env={**env, SUPERVISED: "1"},
        ready=answers(host, port),
        stop_s=15,
    )


def gateway_command(
    host: str, port: int, target: str = "keyvault.gateway.main:application", *, count: int = 1
) -> list[str]:
    """Return the command line of a gateway of `count` processes behind one port.

    HTTP/1.1 alone: a client that reads needs no more.
    """
    argv = [sys.executable, "-P", "-m", "granian", "--interface", "rsgi", "--factory", "--no-ws"]
    argv += ["--host", host, "--port", str(port), "--workers", str(count), "--http", "1"]
    argv += ["--http1-buffer-size", str(_HEAD_BYTES)]
    argv += ["--http1-header-read-timeout", str(_HEAD_MS)]
    argv += ["--backlog", str(_CONNECTIONS), "--backpressure", str(_CONNECTIONS)]
    argv += ["--respawn-failed-workers", "--workers-kill-timeout", "12"]
    return [*argv, target]


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
