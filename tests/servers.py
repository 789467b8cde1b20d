"""Whole installations of keyvault for tests, as a person gets them from the two commands.

`stack`         `./kv up --demo` for the session: the sample organisation
`empty_stack`   `./kv up` for one test: nothing set up, a token printed

A stack has its own PostgreSQL and Valkey, console, gateway, worker and clock, in a
directory and on ports of its own, and a demo also its target servers. So it
runs wherever the suite runs, whatever DATABASE_URL the suite itself uses, and a
test may kill any part of it. It is driven over HTTP and looked at over
`stack.sql`; the ORM of the test process sees another database.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from keyvault.cli import demo as demo_command
from keyvault.launcher import children, ports
from keyvault.launcher import demo as demo_targets
from keyvault.launcher.installation import ROOT

READY_S = 120
STOP_S = 40
OTHERS = ("DATABASE_URL", "KEYVAULT_", "DJANGO_SETTINGS_MODULE")


def free_port() -> int:
    """Return a port of loopback that nobody uses now."""
    return ports.free(1)[0]


def clean_environment(keys: Path) -> dict[str, str]:
    """Return this process's environment without anything that configures keyvault."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OTHERS)}
    return {**kept, "KEYVAULT_KEYS_DIR": str(keys), "PYTHONPATH": str(ROOT)}


@dataclass
class Stack:
    """A running installation. `printed` holds what `up` has said so far.

    `settings` are its own, as its operator would set them in the environment.
    """

    data: Path
    keys: Path
    port: int
    arguments: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    gateway_port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The address of its console; a browser needs `localhost`, as people type it."""
        return f"http://localhost:{self.port}"

    @property
    def gateway(self) -> str:
        """The address of its gateway."""
        return f"http://localhost:{self.gateway_port}"

    @property
    def output(self) -> Path:
        """Where what `up` prints is kept."""
        return self.data.with_suffix(".out")

    def ports(self) -> list[str]:
        """Return the options that give it ports of its own."""
        return ["--port", str(self.port), "--gateway-port", str(self.gateway_port)]

    def printed(self) -> str:
        """Return what `up` has printed since its last start."""
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""

    def start(self) -> Stack:
        """Start it and return once it serves. Fails the test with what it printed."""
        argv = ["up", "--data", str(self.data), *self.ports(), *self.arguments]
        with self.output.open("w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "keyvault.cli", *argv],
                env={**clean_environment(self.keys), **self.settings},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                # No thread of the suite runs yet when a stack is started.
                preexec_fn=children.dying_with(signal.SIGTERM),  # noqa: PLW1509
            )
        return self.await_ready(READY_S)

    def await_ready(self, seconds: float) -> Stack:
        """Wait until it serves. Fails the test with what it printed."""
        until = time.monotonic() + seconds
        while "ready in" not in self.printed():
            if self.process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"the stack did not start:\n{self.printed()}")
            time.sleep(0.1)
        return self

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it, by Ctrl-C unless told otherwise, and return its exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=STOP_S)

    def is_running(self) -> bool:
        """Say whether its supervisor lives."""
        return self.process is not None and self.process.poll() is None

    def pid(self, name: str) -> int:
        """Return the process id of `console`, `gateway`, `worker`, `clock`, `postgresql` or `valkey`.

        Waits for one that is being started again.
        """
        path = self.data / "run" / f"{name}.pid"
        until = time.monotonic() + READY_S
        while not (path.exists() and path.read_text(encoding="ascii").strip()):
            assert time.monotonic() < until, f"{name} does not come back"
            time.sleep(0.05)
        return int(path.read_text(encoding="ascii").split()[0])

    def kill(self, name: str) -> None:
        """Kill one of its processes with SIGKILL; the supervisor starts it again."""
        os.kill(self.pid(name), signal.SIGKILL)

    def log(self, name: str) -> str:
        """Return the log of one of its processes."""
        return (self.data / "log" / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def environment(self) -> dict[str, str]:
        """Return what its processes were given."""
        found: dict[str, str] = json.loads((self.data / "environment.json").read_text("utf-8"))
        return found

    @contextmanager
    def sql(self, *, superuser: bool = True) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Connect to its database, as superuser or as the role that serves; autocommit."""
        url = self.environment()["DATABASE_URL"]
        if superuser:
            facts = json.loads((self.data / "installation.json").read_text("utf-8"))
            place = url.partition("@")[2]
            url = f"postgresql://postgres:{facts['superuser_password']}@{place}"
        with psycopg.connect(url, autocommit=True) as link:
            yield link

    def people(self) -> dict[str, dict[str, Any]]:
        """Return the people of a demo by user name, as demo.json lists them."""
        found = json.loads((self.data / "demo.json").read_text(encoding="utf-8"))
        return {person["username"]: person for person in found["people"]}

    def code(self, name: str) -> str:
        """Return a code of a demo's person that is accepted now.

        A code counts once. So that a test need not wait 30 s for the next, the
        memory of the last one is wiped first.
        """
        person = self.people()[name]
        with self.sql() as link:
            link.execute(
                "UPDATE keyvault_totpdevice SET last_step = -1 FROM keyvault_user u"
                " WHERE u.id = user_id AND u.username = %s",
                [name],
            )
        return demo_command.totp(person["totp_secret"], int(time.time()) // demo_command.STEP_S)

    def targets(self) -> demo_targets.Targets:
        """Return how a demo's Connections reach the servers that they manage."""
        return demo_targets.load(self.data)

    def setup_token(self) -> str:
        """Return the one-time token that `up` has printed."""
        line = next(line for line in self.printed().splitlines() if "set-up" in line)
        return line.partition(" token ")[2].split()[0]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return a running demo: people of PRODUCT.md, real target servers, worker and clock."""
    root = tmp_path_factory.mktemp("stack")
    running = Stack(root / "data", root / "keys", free_port(), ("--demo",)).start()
    yield running
    running.stop()


@pytest.fixture
def empty_stack(tmp_path: Path) -> Iterator[Stack]:
    """Return a running installation that nobody has set up."""
    running = Stack(tmp_path / "data", tmp_path / "keys", free_port()).start()
    yield running
    running.stop()
