"""A deployment has a PostgreSQL key rotated by one command, while an agent works with it.

The whole installation runs, and the key opens a real server: no login fails on
the way, and the old one is refused at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from django.utils import timezone

from keyvault.client import Client
from keyvault.launcher import demo
from keyvault.launcher.installation import ROOT
from tests.flows import lives
from tests.flows.visitors import visitor
from tests.keyvault.gateway.builders import until
from tests.servers import Stack

pytestmark = pytest.mark.slow
AGENT, KEY = "refund-bot", "refund-orders"
WAIT_S = 120


@pytest.fixture
def identity(stack) -> dict[str, str]:
    """Return what the environment of the demo's agent holds."""
    agents = json.loads((stack.data / "demo.json").read_text(encoding="utf-8"))["agents"]
    secret = next(one["client_secret"] for one in agents if one["client_id"] == AGENT)
    return {
        "KEYVAULT_URL": stack.url,
        "KEYVAULT_CLIENT_ID": AGENT,
        "KEYVAULT_CLIENT_SECRET": secret,
        "KEYVAULT_REFRESH_S": "0.2",
    }


def command(identity, *words: str) -> subprocess.Popen[str]:
    """Start `keyvault` as the agent."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "keyvault.cli", *words],
        env=env | identity,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def a_key_that_the_agent_may_use(stack) -> None:
    """Have alice ask for the key and for her agent's use of it, and bob and carol approve."""
    with (
        visitor(stack, "alice") as alice,
        visitor(stack, "bob") as bob,
        visitor(stack, "carol") as carol,
    ):
        made = lives.ask_for_key(alice, KEY, lives.DATABASE, delivery_mode="pull")
        lives.done(made, bob, carol)
        what = {"what": KEY, "days": "7", "reason": "It pays refunds.", "send": "1"}
        asked = alice.send(f"/agents/{AGENT}/keys/ask/", "what", **what)
        lives.done(asked.url.path, bob, carol)


def logs_in(stack, user: str, password: str) -> bool:
    """Say whether the server behind the key lets somebody in."""
    targets = stack.targets()
    place = f"host={targets.host} port={targets.postgres_port} dbname={demo.DATABASE}"
    try:
        psycopg.connect(f"{place} user={user}", password=password, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def hurry(stack) -> None:
    """Have the old version be silent for a second instead of minutes before it is ended."""
    with stack.sql() as link:
        link.execute("UPDATE keyvault_rotation SET terms = terms || '{\"quiet_s\": 1}'")


@dataclass
class AtWork:
    """The agent, which logs in with whatever it reads: which versions it had, and who was refused."""

    stack: Stack
    client: Client
    seen: set[int] = field(default_factory=set)
    refused: list[int] = field(default_factory=list)

    def credential(self) -> tuple[int, str, str]:
        """Return version, user and password as they are read now."""
        found = self.client.do(self.client.core.refresh(KEY))
        return found.version, found.public["username"], found.reveal()

    def log_in(self) -> None:
        """Read the key and log in with it."""
        number, user, password = self.credential()
        self.seen.add(number)
        if not logs_in(self.stack, user, password):
            self.refused.append(number)

    def report(self) -> None:
        """Say that it uses the key, so that it is known among the dependents at once."""
        used = {"events": [{"key": KEY, "at": timezone.now().isoformat()}]}
        assert self.client.do(self.client.core.api("POST", "/usage", body=used))["accepted"] == 1


@contextmanager
def at_work(stack: Stack, identity: dict[str, str]) -> Iterator[AtWork]:
    """Connect as the agent."""
    secret = identity["KEYVAULT_CLIENT_SECRET"]
    with Client(stack.url, client_id=AGENT, client_secret=secret, refresh_s=0.2) as client:
        yield AtWork(stack, client)


def test_a_deployment_rotates_a_key_and_no_login_fails(stack, identity):
    a_key_that_the_agent_may_use(stack)
    words = ("--reason", "ci", "--deploy-id", "d-42", "--wait", "--timeout", str(WAIT_S))
    with at_work(stack, identity) as agent:
        agent.log_in()
        agent.report()
        _, old_user, old_password = agent.credential()
        process = command(identity, "rotate", KEY, *words)

        def is_over() -> bool:
            hurry(stack)
            agent.log_in()
            return process.poll() is not None

        try:
            until(is_over, WAIT_S)
        finally:
            process.kill()
            out, err = process.communicate(timeout=30)
        _, user, password = agent.credential()

    assert process.returncode == 0, out + err
    assert (agent.refused, agent.seen) == ([], {1, 2}), out
    assert out.splitlines()[-1] == f"{KEY} v1 -> v2: done, 1 of 1 dependents"
    assert logs_in(stack, user, password)
    assert not logs_in(stack, old_user, old_password)
    assert user != old_user
    assert password not in out + err
    assert old_password not in out + err
