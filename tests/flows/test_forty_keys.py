"""Scene B of PRODUCT.md: forty keys, no outage.

Forty keys come in: those of an env file by one request, which each of the people
who decide signs once, and a role of a real PostgreSQL server. That one has three
users at work all the time: a program with keyvault's client, another one that
is stopped, and an unmodified client of Vault. A deployment has it rotated. The
rotation is held for the one that is stopped, while the old version works on;
when that one comes back, the rotation completes. No call fails, and nobody is
asked a second time.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import psycopg
import pytest

from keyvault.cli.codes import Exit
from keyvault.client.values import Value
from keyvault.launcher.installation import ROOT
from tests import cleartext
from tests.flows.rotating import fetched, logs_in
from tests.flows.test_login import Terminal
from tests.flows.visitors import Visitor, await_state, visitor
from tests.keyvault.gateway.builders import until
from tests.servers import Stack

pytestmark = pytest.mark.slow

KEY, COUNT = "forty-orders", 40
STEADY, STOPPED, OF_VAULT = AGENTS = "steady-bot", "stopped-bot", "vault-bot"
RATE, WAIT_S = 20, 60
ENV_FILE = "".join(f"VENDOR_{number}_TOKEN=vk-{number:04}-canary\n" for number in range(COUNT - 1))


@pytest.fixture
def alice(impatient_stack: Stack) -> Iterator[Visitor]:
    with visitor(impatient_stack, "alice") as person:
        yield person


def inside(stack: Stack, *words: str) -> Any:
    """Run `tests.flows.forty` in the installation and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.flows.forty", *words],
        env={**os.environ, **stack.environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def bring_in(stack: Stack, terminal: Terminal, home: Path) -> list[str]:
    """Have the forty keys in the inventory and return their names.

    The env file is one request, and one signature of each who decides.
    """
    file = home / ".env"
    file.write_text(ENV_FILE)
    where = ("--connection", "by-hand", "--environment", "dev", "--team", "payments")
    asked = (*where, "--delivery", "pull", "--reason", "Out of the file.", "--json")
    code, said, complained = terminal.run("import", "dotenv", str(file), *asked)
    assert code == Exit.DONE, said + complained
    assert "canary" not in said + complained
    (request,) = json.loads(said)["requests"]
    path, before = f"/approvals/{request['id']}/", decisions(stack)
    for name in ("bob", "carol"):
        with visitor(stack, name) as approver:
            approver.decide(path)
    await_state(stack, path, "done")
    assert decisions(stack) == before + 2
    inside(stack, "issue", KEY)
    return [*request["keys"], KEY]


def signed_in(alice: Visitor, home: Path) -> Terminal:
    """Return a terminal of alice's, signed in through the page that it names."""
    terminal = Terminal(home, alice.stack.url)
    with terminal.login() as (command, address, code):
        path = address.removeprefix(alice.stack.url)
        asked = alice.send(path, "user_code", user_code=code)
        fields = dict(
            re.findall(r'type="hidden" name="(user_code|back)" value="([^"]*)"', asked.text)
        )
        alice.confirmed(alice.post("/device/decide/", fields | {"decision": "allow"}))
        said, complained = command.communicate(timeout=WAIT_S)
    assert command.returncode == Exit.DONE, said + complained
    return terminal


def declare(stack: Stack, token: str) -> None:
    """Register by API who uses the key, and how each shows which version it has."""
    users = [
        {"name": name, "agent": name, "health": "reads" if name == OF_VAULT else "reports"}
        for name in AGENTS
    ]
    answer = cleartext.request(
        "PUT",
        f"{stack.url}/api/v1/keys/{KEY}/dependents",
        json={"dependents": users},
        headers={"Authorization": f"Bearer {token}"},
        timeout=WAIT_S,
    )
    assert [one["name"] for one in answer.raise_for_status().json()["items"]] == sorted(AGENTS)


@contextmanager
def at_work(stack: Stack, name: str, secret: str) -> Iterator[Program]:
    """Let a program with keyvault's client use the key until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.load.consumers", KEY, str(RATE)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "KEYVAULT_URL": stack.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        process.stdin.write(json.dumps({"agents": {name: secret}, "shelves": []}) + "\n")
        process.stdin.flush()
        yield Program(process)
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)


@dataclass
class Program:
    """A process that can be stopped, and counts what it did when it is told to end."""

    process: subprocess.Popen[str]

    def stop(self) -> None:
        """Let it do nothing, as a machine that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def come_back(self) -> None:
        """Let it go on where it was."""
        self.process.send_signal(signal.SIGCONT)

    def counted(self) -> Counter[str]:
        """End it and return what it counted."""
        said, _ = self.process.communicate("", timeout=WAIT_S)
        return Counter(json.loads(said))


@dataclass
class OfVault:
    """A program that knows Vault and nothing of keyvault: it reads the secret, and logs in with it."""

    url: str
    token: str
    count: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        """Work until it is ended."""
        client = hvac.Client(url=self.url, token=self.token)
        while not self.ended.wait(1 / RATE):
            try:
                self._call(client)
            except (hvac.exceptions.VaultError, psycopg.Error, OSError) as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
        client.adapter.close()

    def _call(self, client: hvac.Client) -> None:
        found = client.secrets.kv.v2.read_secret_version(path=KEY, raise_on_deleted_version=True)
        said = found["data"]["data"]
        with psycopg.connect(
            host=said["host"],
            port=said["port"],
            dbname=said["database"],
            user=said["username"],
            password=said["password"],
            sslmode="disable",
        ) as link:
            link.execute("SELECT 1")
        self.count[f"v{found['data']['metadata']['version']}"] += 1


@contextmanager
def with_vault(stack: Stack, secret: str) -> Iterator[OfVault]:
    """Let the client of Vault work until the block ends."""
    form = {"grant_type": "client_credentials", "client_id": OF_VAULT, "client_secret": secret}
    token = cleartext.post(f"{stack.url}/api/v1/oauth/token", data=form).raise_for_status().json()
    found = OfVault(stack.gateway, token["access_token"])
    thread = threading.Thread(target=found.go_on)
    thread.start()
    try:
        yield found
    finally:
        found.ended.set()
        thread.join()


def one(stack: Stack, statement: str, *values: object) -> Any:
    """Return the one value that a statement finds in the installation's database."""
    with stack.sql() as link:
        found = link.execute(statement, values).fetchone()
    return found[0] if found else None


def state(stack: Stack) -> str:
    """Return where the key's rotation stands."""
    return one(
        stack,
        "SELECT r.state FROM keyvault_rotation r JOIN keyvault_key k ON k.id = r.key_id"
        " WHERE k.name = %s",
        KEY,
    )


def told(stack: Stack) -> str | None:
    """Return the sentence of the open finding about the rotation."""
    return one(
        stack,
        "SELECT sentence FROM keyvault_finding"
        " WHERE kind = 'rotation' AND closed_at IS NULL AND subject_label = %s",
        KEY,
    )


def decisions(stack: Stack) -> int:
    """Return how often anybody has decided anything."""
    return one(stack, "SELECT count(*) FROM approvals_decision")


def loaded(stack: Stack, version: int) -> int:
    """Return how many agents say that they use a version."""
    return one(
        stack,
        "SELECT count(DISTINCT l.agent_id) FROM keyvault_loadedversion l"
        " JOIN keyvault_key k ON k.id = l.key_id WHERE k.name = %s AND l.number = %s",
        KEY,
        version,
    )


def held(stack: Stack, alice: Visitor, terminal: Terminal) -> None:
    """Have a deployment rotate the key, and see it held for the program that is stopped."""
    words = ("--reason", "ci", "--deploy-id", "d-40", "--wait", "--timeout", str(WAIT_S))
    code, said, complained = terminal.run("rotate", KEY, *words)

    assert code == Exit.HELD, said + complained
    assert said.splitlines()[-1].startswith(f"{KEY} v1 -> v2: held, ")
    # On a machine that is very slow another one may be late too.
    why = told(stack)
    assert STOPPED in why
    assert f"did not confirm the new version of {KEY} in time." in why
    assert why in complained
    assert f"The rotation of {KEY} needs a person" in alice.get("/").text


@dataclass
class Scene:
    """The key with its three users, before anything happens."""

    stack: Stack
    alice: Visitor
    terminal: Terminal
    secrets: dict[str, str]
    decided: int

    def fetched(self) -> Value:
        """Return the version that is current now."""
        reader = {"client_id": STEADY, "client_secret": self.secrets[STEADY]}
        return fetched(self.stack, reader, says=False, key=KEY)


@pytest.fixture
def scene(impatient_stack: Stack, alice: Visitor, tmp_path: Path) -> Scene:
    terminal = signed_in(alice, tmp_path)
    names = bring_in(impatient_stack, terminal, tmp_path)
    assert len(names) == COUNT
    assert names[0] in alice.get(f"/keys/{names[0]}/").text
    secrets = inside(impatient_stack, "staff", KEY, *AGENTS)
    declare(impatient_stack, terminal.token())
    return Scene(impatient_stack, alice, terminal, secrets, decisions(impatient_stack))


def test_forty_keys_move_to_a_new_version_without_an_outage(scene):
    stack = scene.stack
    with ExitStack() as work:
        steady, stopped = (
            work.enter_context(at_work(stack, name, scene.secrets[name]))
            for name in (STEADY, STOPPED)
        )
        of_vault = work.enter_context(with_vault(stack, scene.secrets[OF_VAULT]))
        until(lambda: loaded(stack, 1) == 2 and of_vault.count["v1"], WAIT_S)
        old = scene.fetched()

        stopped.stop()
        held(stack, scene.alice, scene.terminal)
        until(lambda: loaded(stack, 2) == 1 and of_vault.count["v2"], WAIT_S)
        assert logs_in(old), "the old version works on while it is held"
        assert state(stack) == "held"

        stopped.come_back()
        until(lambda: state(stack) == "completed", WAIT_S)
        calls = of_vault.count["v2"]
        until(lambda: of_vault.count["v2"] > calls + RATE, WAIT_S)
        counts = [steady.counted(), stopped.counted()]

    new = scene.fetched()
    assert (old.version, new.version) == (1, 2)
    assert (logs_in(old), logs_in(new)) == (False, True)
    assert of_vault.wrong == []
    for count in counts:
        assert set(count) == {"served", "logins"}, "a call failed"
        assert count["logins"] == len(of_vault.count) == 2
    assert told(stack) is None
    assert decisions(stack) == scene.decided, "somebody was asked a second time"
