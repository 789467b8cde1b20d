"""Rotations of a running installation: who uses the key, and what its owner sees at a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import psycopg
from playwright.sync_api import Locator, expect

from keyvault.client import Client
from keyvault.client.values import Value
from keyvault.launcher.installation import ROOT
from tests.flows.people import Person
from tests.servers import Stack

KEY = "rotated-role"
WAIT_MS = 60_000


def consumers(stack: Stack, count: int) -> list[dict[str, str]]:
    """Make the key and agents that use it and report its version; return their names and secrets."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.load.rotating", "make", str(count)],
        env={**os.environ, **stack.environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout).items()
    return [{"client_id": name, "client_secret": secret} for name, secret in made]


def fetched(
    stack: Stack,
    consumer: dict[str, str],
    *,
    says: bool,
    is_healthy: bool = True,
    key: str = KEY,
) -> Value:
    """Fetch the key as the consumer does; `says`: and report that it uses what it got."""
    with Client(stack.url, **consumer) as client:
        value = client.get(key)
        if says:
            client.heartbeat(healthy=is_healthy)
        return value


def logs_in(value: Value) -> bool:
    """Say whether the server of the key lets somebody in with a version of it."""
    said = value.public
    try:
        psycopg.connect(
            host=said["host"],
            port=said["port"],
            dbname=said["database"],
            user=said["username"],
            password=value.reveal(),
            sslmode="disable",
            connect_timeout=5,
        ).close()
    except psycopg.OperationalError:
        return False
    return True


def rotate(alice: Person) -> None:
    """Have the key rotated on its page, and open the rotation."""
    page = alice.page
    alice.go(f"/keys/{KEY}/")
    page.get_by_role("link", name="Rotate…").click()
    page.get_by_label("Reason").fill("The quarter is over.")
    page.get_by_role("button", name=f"Rotate {KEY}").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(KEY)
    alice.await_state(alice.path(), "Done")
    alice.go("/rotations/?state=open")
    page.get_by_role("link", name=KEY).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Rotation of {KEY}")


def stay(alice: Person) -> None:
    """Mark the page that is open, so that a reload shows."""
    alice.page.evaluate("window.kvStayed = true")


def stayed(alice: Person) -> bool:
    """Say whether the page that was marked is still the one that is open."""
    return bool(alice.page.evaluate("window.kvStayed === true"))


def head(alice: Person, word: str) -> None:
    """Wait until the page that is open shows a state in its head."""
    badge = alice.page.locator(".page-head .badge", has_text=re.compile(f"^{word}$"))
    expect(badge).to_be_visible(timeout=WAIT_MS)


def lane(alice: Person, name: str) -> Locator:
    """Return the row of a dependent on the board."""
    return alice.page.locator("#rotation tr", has_text=name)
