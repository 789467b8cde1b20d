"""`keyvault up` as a person meets it: started, killed, started again, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

from keyvault.launcher.installation import ROOT
from tests.servers import Stack, clean_environment, free_port

pytestmark = pytest.mark.slow

SETTLED_S = 10
BACK_S = 60
SERVICES = {"console", "gateway", "worker", "clock", "postgresql", "valkey"}


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Stack:
    """An installation that the tests of this file start and kill in turn."""
    root = tmp_path_factory.mktemp("house")
    made = Stack(root / "data", root / "keys", free_port())
    yield made
    made.stop(signal.SIGKILL)


@pytest.fixture
def running(house) -> Stack:
    """The installation, started if the test before has left it stopped."""
    return house if house.is_running() else house.start()


@pytest.fixture
def stopped(house) -> Stack:
    """The installation, started at least once and stopped."""
    if house.process is None:
        house.start()
    house.stop()
    return house


def members(data: Path) -> dict[int, str]:
    """Return every process that has to do with a data directory, by its arguments or environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
            about = line + (entry / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(data) in about:
            found[int(entry.name)] = line.decode("utf-8", "replace")
    return found


def descendants(pid: int) -> set[int]:
    """Return the process and all that it, and what it started, has started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rpartition(") ")[2].split()[1]
                )
            except OSError:
                continue
    tree = {pid}
    while more := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def assert_all_gone(pids: set[int], data: Path) -> None:
    until = time.monotonic() + SETTLED_S
    alive = left = True
    while alive or left:
        alive = {pid for pid in pids if Path(f"/proc/{pid}").exists() and not _is_zombie(pid)}
        left = members(data)
        assert time.monotonic() < until, f"left behind: {alive} {left}"
        time.sleep(0.05)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return True


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def refused(*arguments: str, keys: Path, **extra: str) -> str:
    """Run `./kv up`, which must refuse, and return its one sentence."""
    result = subprocess.run(
        [ROOT / "kv", "up", *arguments],
        env={**clean_environment(keys), **extra},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode in {1, 2}
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("keyvault: ")
    return last


def test_a_start_serves_and_ctrl_c_leaves_nothing(running):
    pids = descendants(running.process.pid)

    assert get(f"{running.url}/healthz")[0] == 200
    assert json.loads(get(f"{running.url}/readyz")[1])["status"] == "ready"
    assert running.gateway in running.printed()
    assert _gateway_gets_ready(running)
    assert {p.stem for p in (running.data / "run").glob("*.pid")} == SERVICES
    assert len(running.setup_token()) > 16
    assert f"ssh -L {running.port}:localhost:{running.port}" in running.printed()

    assert running.stop() == 0
    assert_all_gone(pids, running.data)


def _gateway_gets_ready(house: Stack) -> bool:
    until = time.monotonic() + SETTLED_S
    while time.monotonic() < until:
        if get(f"{house.gateway}/readyz")[0] == 200:
            return True
        time.sleep(0.1)
    return False


def test_a_second_start_finds_everything_and_makes_nothing_anew(stopped):
    stopped.start()

    assert "migrations applied" not in stopped.printed()
    assert "static files" not in stopped.printed()
    assert "cluster made" not in stopped.printed()
    stopped.stop()


def test_kill_9_of_the_supervisor_leaves_no_process_and_loses_nothing(running):
    with running.sql() as link:
        link.execute("CREATE TABLE survives AS SELECT 42 AS answer")
    pids = descendants(running.process.pid)
    assert len(pids) > len(SERVICES)

    assert running.stop(signal.SIGKILL) == -signal.SIGKILL
    assert_all_gone(pids, running.data)

    running.start()
    with running.sql() as link:
        assert link.execute("SELECT answer FROM survives").fetchone() == (42,)
        link.execute("DROP TABLE survives")
    running.stop()


@pytest.mark.parametrize("name", ["console", "gateway", "worker", "clock", "postgresql", "valkey"])
def test_a_killed_child_is_started_again(running, name):
    before = running.pid(name)

    running.kill(name)

    until = time.monotonic() + BACK_S
    while f"{name} ended (signal SIGKILL)" not in running.printed() or _status(running) != "ready":
        assert time.monotonic() < until, running.printed()
        time.sleep(0.1)
    assert running.pid(name) != before


def _status(house: Stack) -> str:
    try:
        return json.loads(get(f"{house.url}/readyz")[1]).get("status", "")
    except (OSError, ValueError):
        return ""


def test_what_serves_does_not_own_the_tables(running):

    assert "KEYVAULT_MIGRATE_DATABASE_URL" not in running.environment()
    with (
        running.sql(superuser=False) as link,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        link.execute("DELETE FROM keyvault_event")


def test_no_password_stands_in_a_command_line(running):
    facts = json.loads((running.data / "installation.json").read_text())
    secrets = [facts[name] for name in facts if name.endswith(("password", "key")) and facts[name]]

    lines = " ".join(members(running.data).values())

    assert lines
    assert not [secret for secret in secrets if secret in lines]


def test_a_directory_that_is_in_use_is_one_sentence(running):

    sentence = refused("--data", str(running.data), "--port", str(free_port()), keys=running.keys)

    assert f"already runs in {running.data} (process {running.process.pid})" in sentence


def test_a_busy_port_is_one_sentence_with_the_mend(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused("--data", str(tmp_path / "d"), "--port", str(port), keys=tmp_path / "k")

    assert sentence == (
        f"keyvault: Port {port} is taken by another program. Choose one: ./kv up --port {port + 1}"
    )


@pytest.mark.parametrize("port", ["0", "65536", "eighty", "-1", "٨٠"])
def test_a_port_that_is_none_is_one_sentence(tmp_path, port):
    assert "whole number from 1 to 65535" in refused(f"--port={port}", keys=tmp_path)


def test_a_demo_with_an_external_database_is_refused(tmp_path):
    sentence = refused(
        *("--demo", "--data", str(tmp_path / "d")),
        keys=tmp_path / "k",
        DATABASE_URL="postgresql:///production",
    )

    assert "refuses DATABASE_URL" in sentence
    assert not (tmp_path / "d").exists()


def test_r05_lost_keys_give_a_sealed_start_and_are_not_replaced(stopped, tmp_path):
    away = tmp_path / "away"
    shutil.move(stopped.keys, away)

    stopped.start()
    try:
        assert "SEALED" in stopped.printed()
        assert get(f"{stopped.url}/healthz")[0] == 200
        status, body = get(f"{stopped.url}/readyz")
        assert (status, json.loads(body)) == (503, {"status": "sealed"})
        assert not stopped.keys.exists()
    finally:
        stopped.stop()
        shutil.move(away, stopped.keys)

    stopped.start()
    assert get(f"{stopped.url}/readyz")[0] == 200
    stopped.stop()
