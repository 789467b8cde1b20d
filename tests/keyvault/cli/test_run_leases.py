"""`keyvault run` with keys that are lent: taken at the start, made to last, returned at the end."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import pytest

KEY = ("--key", "shop-repository=TOKEN")
SHOW = "import os; print(len(os.environ['TOKEN']), os.environ['TOKEN'])"


class Lender:
    """The part of the server that lends; each lease has a value and an address of its own."""

    def __init__(self, house):
        self.house, self.taken, self.renewals, self.returned = house, 0, 0, []
        self.lives_s, self.can_last = 900.0, True
        house.api["POST", "/api/v1/leases"] = self.take

    def take(self, body):
        assert body["ttl_seconds"] == 900
        self.taken += 1
        name = f"lease-{self.taken}"
        self.house.api["POST", f"/api/v1/leases/{name}/renew"] = lambda _: self.renew(name)
        self.house.api["DELETE", f"/api/v1/leases/{name}"] = lambda _: self.end(name)
        return 201, self._told(name)

    def renew(self, name):
        self.renewals += 1
        if not self.can_last:
            return 409, {"detail": "This lease cannot last longer."}
        return 200, self._told(name)

    def end(self, name):
        self.returned.append(name)
        return 200, self._told(name)

    def _told(self, name):
        ends_at = datetime.now(UTC) + timedelta(seconds=self.lives_s)
        return {
            "id": name,
            "key": "shop-repository",
            "expires_at": ends_at.isoformat(),
            "lapses_at": ends_at.isoformat(),
            "public": {},
            "fields": {"token": f"ghs_value-of-{name}"},
        }


@pytest.fixture
def lender(house):
    house.bodies.append({})  # What is sent without a body is answered, too.
    return Lender(house)


@pytest.fixture
def agent(terminal):
    return terminal.as_agent()


def python(code):
    return ("--", sys.executable, "-u", "-c", code)


def test_a_key_without_a_value_is_lent_to_the_command_and_returned(lender, agent):
    result = agent.run("run", *KEY, *python(SHOW))

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{len('ghs_value-of-lease-1')} ***\n"
    assert (lender.taken, lender.returned) == (1, ["lease-1"])


def test_it_is_returned_whatever_the_command_s_end_is(lender, agent):
    assert agent.run("run", *KEY, *python("raise SystemExit(7)")).returncode == 7
    assert lender.returned == ["lease-1"]


def test_a_key_that_can_be_read_is_read_and_not_lent(lender, agent):
    result = agent.run("run", "--key", "openai-prod=TOKEN", *python(SHOW))
    assert result.returncode == 0, result.stderr
    assert lender.taken == 0


def test_a_key_that_is_neither_is_refused_as_before(house, agent):
    result = agent.run("run", "--key", "hidden-key=TOKEN", *python(SHOW))
    assert result.returncode != 0
    assert result.stdout == ""


def test_a_lease_is_made_to_last_while_the_command_runs(lender, agent):
    lender.lives_s = 1.0
    process = agent.start("run", *KEY, *python("import sys; sys.stdin.read()"), stdin=-1)
    _until(lambda: lender.renewals >= 2)

    process.communicate(timeout=30)

    assert (lender.taken, lender.returned) == (1, ["lease-1"])


def test_a_new_lease_is_taken_when_one_can_last_no_longer(lender, agent):
    lender.lives_s, lender.can_last = 2.0, False
    code = "import os, time; print(os.environ['TOKEN'][-7:], flush=True); time.sleep(60)"
    process = agent.start("run", *KEY, "--on-change", "restart", *python(code))
    assert process.stdout.readline() == b"lease-1\n"
    assert process.stdout.readline() == b"lease-2\n"
    lender.can_last, lender.lives_s = True, 900.0

    process.terminate()
    process.communicate(timeout=30)

    assert {"lease-1", "lease-2"} <= set(lender.returned)
    assert len(lender.returned) == lender.taken


def test_without_on_change_it_is_said_that_a_lease_will_end(lender, agent):
    lender.lives_s, lender.can_last = 1.0, False
    process = agent.start("run", *KEY, *python("import sys; sys.stdin.read()"), stdin=-1)
    assert b"--on-change restart" in process.stderr.readline()

    process.communicate(timeout=30)

    assert (lender.taken, lender.returned) == (1, ["lease-1"])


def test_a_return_that_fails_is_said_and_changes_no_exit_code(lender, agent, monkeypatch):
    monkeypatch.setattr(lender, "end", lambda name: (503, {"detail": "Not now."}))
    result = agent.run("run", *KEY, *python("raise SystemExit(3)"))
    assert result.returncode == 3
    assert "could not be returned" in result.stderr


def _until(condition):
    import time

    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
