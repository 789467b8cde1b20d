"""`keyvault up`: start everything on this machine, print the address, stop it all on Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sys
import time
import webbrowser
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyvault.launcher import children, demo, installation, places, processes, servers
from keyvault.launcher.arguments import Arguments
from keyvault.launcher.installation import ROOT, Installation
from keyvault.launcher.places import Places
from keyvault.launcher.sentences import Stop
from keyvault.launcher.servers import Servers
from keyvault.launcher.supervisor import Supervisor

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person asked for on the command line."""

    port: int
    gateway_port: int
    host: str
    data: Path
    demo: bool
    open: bool

    @property
    def url(self) -> str:
        """The address that people type."""
        given = os.environ.get("KEYVAULT_PUBLIC_URL", "").rstrip("/")
        return given or f"http://localhost:{self.port}"

    @property
    def gateway(self) -> str:
        """The address that agents read from."""
        given = os.environ.get("KEYVAULT_GATEWAY_URL", "").rstrip("/")
        return given or f"http://localhost:{self.gateway_port}"


def run(argv: Sequence[str]) -> int:
    """Start and supervise until Ctrl-C or SIGTERM. Raises Stop with a sentence."""
    wanted = _parse(argv)
    if wanted.demo:
        demo.refuse_unless_private(wanted.host)
    began = time.monotonic()
    where = places.lay_out(wanted.data)
    with installation.lock(wanted.data):
        servers.end_leftovers(where, say=say)
        _require_free_port(wanted.host, wanted.port, "--port")
        _require_free_port(wanted.host, wanted.gateway_port, "--gateway-port")
        facts = installation.obtain(wanted.data, demo=wanted.demo)
        _say_if_keys_are_gone(facts)
        asyncio.run(_supervise(wanted, where, facts, began))
    return 0


def say(line: str) -> None:
    """Print one line of progress."""
    print(f"  {line}", flush=True)


def _parse(argv: Sequence[str]) -> Wanted:
    parser = Arguments(prog="keyvault up", description="Start everything here.")
    parser.add_argument("--port", type=_port, default=8000, help="of the console (8000)")
    parser.add_argument("--gateway-port", type=_port, default=8001, help="of the gateway (8001)")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (127.0.0.1)")
    parser.add_argument("--data", help="where databases and logs live (.kv, demo: .kv-demo)")
    parser.add_argument("--demo", action="store_true", help="load a sample organisation")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    given = parser.parse_args(argv)
    data = given.data or os.environ.get("KEYVAULT_DATA_DIR")
    place = Path(data).absolute() if data else installation.default_dir(demo=given.demo)
    if given.port == given.gateway_port:
        raise Stop(
            "console and gateway need different ports. Choose another --gateway-port.", code=2
        )
    return Wanted(given.port, given.gateway_port, given.host, place, given.demo, given.open)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LAST_PORT:
        message = f"{text!r} is no port: a whole number from 1 to {_LAST_PORT}"
        raise ArgumentTypeError(message)
    return int(text)


async def _supervise(wanted: Wanted, where: Places, facts: Installation, began: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    supervisor = Supervisor(log_dir=where.log, run_dir=where.run, say=say)
    work = asyncio.create_task(_bring_up(wanted, where, facts, supervisor))
    asked = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            _announce(wanted, work.result(), time.monotonic() - began)
            await asked
        print("\nstopping", flush=True)
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, Stop):
            await work
        await supervisor.stop()


async def _bring_up(
    wanted: Wanted, where: Places, facts: Installation, supervisor: Supervisor
) -> dict[str, Any]:
    """Start all children in their order; return what the preparation found. Raises Stop."""
    found = await servers.start(supervisor, where, facts, say=say)
    env = _environment(wanted, facts, found)
    if wanted.demo:
        await demo.start_targets(supervisor, where, facts)
    told = await _django({**env, "DATABASE_URL": found.owner}, "prepare", *_token_flag(wanted))
    installation.write_private(wanted.data / "environment.json", json.dumps(env, indent=1))
    if wanted.demo and told.get("empty"):
        await _django(env, "load_demo")
    if wanted.demo:
        demo.note_urls(wanted.data, console=wanted.url, gateway=wanted.gateway)
    # The page first: somebody waits for it.
    await supervisor.start(processes.console(env, host=wanted.host, port=wanted.port))
    gateway = processes.gateway(env, host=wanted.host, port=wanted.gateway_port)
    await supervisor.start(gateway, processes.worker(env), processes.clock(env))
    return told


def _token_flag(wanted: Wanted) -> list[str]:
    return [] if wanted.demo else ["--token"]


def _environment(wanted: Wanted, facts: Installation, found: Servers) -> dict[str, str]:
    """Return what every process of this installation is given."""
    own = {
        "DATABASE_URL": found.app,
        "KEYVAULT_BROKER_URL": found.queue,
        "KEYVAULT_SECRET_KEY": facts.secret_key,
        "KEYVAULT_DATA_DIR": str(wanted.data),
        "KEYVAULT_KEYS_DIR": os.environ.get("KEYVAULT_KEYS_DIR") or facts.keys_dir,
        "KEYVAULT_PUBLIC_URL": wanted.url,
        "KEYVAULT_GATEWAY_URL": wanted.gateway,
        "KEYVAULT_DEMO": str(facts.demo).lower(),
        "DJANGO_SETTINGS_MODULE": "keyvault.settings",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    # The owner's address stays with this process: what serves must not be able to own.
    inherited = {k: v for k, v in os.environ.items() if k != "KEYVAULT_MIGRATE_DATABASE_URL"}
    return {**inherited, **own}


async def _django(env: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Run a management command that speaks JSON lines; show what it says, return what it found.

    Raises Stop with its last line of complaint.
    """
    process = await asyncio.create_subprocess_exec(
        *processes.django(*arguments),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=children.dying_with(signal.SIGKILL),
    )
    out, err = await process.communicate()
    told: dict[str, Any] = {}
    for line in out.decode().splitlines():
        facts = json.loads(line)
        if "say" in facts:
            say(facts.pop("say"))
        told |= facts
    if process.returncode:
        lines = err.decode("utf-8", "replace").strip().splitlines()
        raise Stop(f"{arguments[0]} failed: {lines[-1] if lines else 'without a word'}")
    return told


def _require_free_port(host: str, port: int, option: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Stop(_why_not_bound(host, port, option, error)) from None


def _why_not_bound(host: str, port: int, option: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < _LAST_PORT else port - 1
        return f"Port {port} is taken by another program. Choose one: ./kv up {option} {other}"
    if error.errno == errno.EACCES:
        return f"Port {port} is reserved for root. Choose one above 1023: ./kv up {option} 8000"
    return (
        f"{host} port {port} cannot be bound: {error.strerror}. Choose another --host or {option}."
    )


def _say_if_keys_are_gone(facts: Installation) -> None:
    keys = Path(os.environ.get("KEYVAULT_KEYS_DIR") or facts.keys_dir)
    if not (keys / "kek").exists() and not os.environ.get("KEYVAULT_KEK"):
        say(f"the keys are gone from {keys}: the start is SEALED, no secret can be read.")
        say("Restore that directory from its copy and start again; nothing is made anew.")


def _announce(wanted: Wanted, told: Mapping[str, Any], took_s: float) -> None:
    say(f"ready in {took_s:.1f} s; Ctrl-C stops everything; logs: {wanted.data / 'log'}")
    print(f"\n  keyvault  {wanted.url}", flush=True)
    print(f"  gateway   {wanted.gateway}  (agents read their keys here)", flush=True)
    if wanted.host in LOOPBACK:
        name = socket.gethostname()
        print(f"  from afar ssh -L {wanted.port}:localhost:{wanted.port} {name}", flush=True)
    if told.get("token"):
        print(f"  set-up    {wanted.url}/setup/  token {told['token']} (30 minutes)", flush=True)
    if wanted.demo:
        print(f"  sign in   ./kv demo list; the people are in {wanted.data / 'demo.json'}")
    sys.stdout.flush()
    if wanted.open:
        webbrowser.open(wanted.url)
