"""A person signs a command line in and out: a terminal and a browser at a running installation.

The token that the command keeps reads and asks as that person, opens no value,
and is worth nothing after `keyvault logout`.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from keyvault.cli.codes import Exit
from keyvault.launcher.installation import ROOT
from tests.browser.harness import complaints
from tests.flows.people import Cast, Person, at_browsers
from tests.servers import Stack

pytestmark = pytest.mark.browser

WAIT_S = 60
AGENT = "refund-bot"  # Of alice, in the demo.


@pytest.fixture
def people(stack: Stack, browser: Browser) -> Iterator[Cast]:
    with at_browsers(stack, browser) as cast:
        yield cast


@dataclass
class Terminal:
    """A terminal of one person: the command, and where it keeps its token."""

    home: Path
    url: str

    @property
    def kept(self) -> Path:
        """The file of the token."""
        return self.home / ".config/keyvault/token"

    def token(self) -> str:
        """Return the token that login has left."""
        assert stat.S_IMODE(self.kept.stat().st_mode) == 0o600
        return str(json.loads(self.kept.read_text())["token"])

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start the command as a person would, who has set nothing but `more`."""
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "keyvault.cli", *arguments],
            env={**env, "HOME": str(self.home), "USER": "alice", **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        """Run the command to its end; return its code and what it printed."""
        return _ended(self.start(*arguments, **more))

    @contextmanager
    def login(self) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
        """Begin to sign in; give the running command, and the address and code that it shows."""
        command = self.start("login", self.url)
        try:
            shown = [command.stdout.readline().split() for _ in range(2)]
            assert [words[0] for words in shown] == ["Open", "Type"], command.stderr.read()
            yield command, shown[0][1], shown[1][1]
        finally:
            command.kill()
            command.communicate(timeout=WAIT_S)


def _ended(command: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, complained = command.communicate(timeout=WAIT_S)
    return command.returncode, said, complained


@pytest.fixture
def terminal(stack: Stack, tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, stack.url)


def types(person: Person, address: str, code: str) -> None:
    """Open the page that the terminal names and type its code."""
    page = person.page
    page.goto(address)
    page.get_by_label("Code").fill(code.lower())
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="Sign this command line in?")).to_be_visible()
    expect(page.get_by_text(re.compile("It calls itself alice on"))).to_be_visible()


def called(url: str, token: str) -> int:
    """Return how a server answers whoever carries the token."""
    return httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=WAIT_S).status_code


def test_a_command_line_is_signed_in_by_the_browser_and_out_again(stack, people, terminal):
    alice = people.sign_in("alice")
    with terminal.login() as (command, address, code):
        types(alice, address, code)
        alice.page.get_by_role("button", name="Allow…").click()
        assert not terminal.kept.exists()
        alice.confirm()
        expect(alice.page.get_by_role("heading", name="is signed in")).to_be_visible()
        status, said, complained = _ended(command)
    assert (status, complained) == (Exit.DONE, "")
    assert f"Signed in at {stack.url} as alice, for 8 hours." in said
    token, agents = terminal.token(), f"{stack.url}/api/v1/agents"
    assert token not in said

    status, said, complained = terminal.run("agents", "list", "--json")
    assert (status, complained) == (Exit.DONE, "")
    assert AGENT in [row["name"] for row in json.loads(said)]
    assert called(agents, token) == 200
    assert terminal.run("get", "orders-triage")[0] == Exit.REFUSED
    # 401 where the gateway has not heard of the token yet; it never opens a value.
    assert called(f"{stack.gateway}/v1/keys/orders-triage", token) in {401, 403}

    assert terminal.run("logout") == (Exit.DONE, f"Signed out of {stack.url}.\n", "")
    assert not terminal.kept.exists()
    assert called(agents, token) == 401
    put_back = {"KEYVAULT_URL": stack.url, "KEYVAULT_TOKEN": token}
    assert terminal.run("agents", "list", **put_back)[:2] == (Exit.NOT_SIGNED_IN, "")
    assert not any(token in stack.log(name) for name in ("console", "gateway", "worker"))
    assert complaints(alice.page, people.watch) == []


def test_a_command_line_that_is_refused_in_the_browser_keeps_nothing(stack, people, terminal):
    alice = people.sign_in("alice")
    with terminal.login() as (command, address, code):
        types(alice, address, code)
        alice.page.get_by_role("button", name="Refuse").click()
        expect(alice.page.get_by_role("heading", name="Refused")).to_be_visible()
        status, _said, complained = _ended(command)

    assert status == Exit.NOT_SIGNED_IN
    assert "refused in the browser" in complained
    assert not terminal.kept.exists()
