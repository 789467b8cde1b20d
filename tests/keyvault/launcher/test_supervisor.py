"""The supervisor with children that are small shell commands."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyvault.launcher import children
from keyvault.launcher.sentences import Stop
from keyvault.launcher.supervisor import Backoff, Service, Supervisor

QUICK = Backoff(first_s=0.05, most_s=0.2, good_run_s=60)


class House:
    """A supervisor in a temporary directory, and what it said."""

    def __init__(self, root: Path) -> None:
        self.log, self.run, self.said = root / "log", root / "run", []
        self.log.mkdir()
        self.run.mkdir()
        self.supervisor = Supervisor(
            log_dir=self.log, run_dir=self.run, say=self.said.append, backoff=QUICK
        )


@pytest.fixture
def house(tmp_path) -> House:
    return House(tmp_path)


def shell(name: str, command: str, **options) -> Service:
    return Service(
        name=name, argv=["/bin/sh", "-c", command], env={"PATH": "/usr/bin:/bin"}, **options
    )


def is_alive(pid: int) -> bool:
    return bool(children.started_at(pid))


async def eventually(condition, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        await asyncio.sleep(0.02)


def test_start_waits_until_the_probe_says_yes(house, tmp_path):
    flag = tmp_path / "flag"

    async def is_there() -> bool:
        return flag.exists()

    async def play():
        await house.supervisor.start(
            shell("slow", f"sleep 0.3; touch {flag}; exec sleep 60", ready=is_there)
        )
        assert flag.exists()
        await house.supervisor.stop()

    asyncio.run(play())


def test_a_dead_child_is_started_again_and_it_is_said(house):
    async def play():
        await house.supervisor.start(shell("worker", "exec sleep 60"))
        first = house.supervisor.pid("worker")
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: house.supervisor.pid("worker") != first)
        await house.supervisor.stop()

    asyncio.run(play())

    assert "worker ended (signal SIGKILL)" in house.said[0]
    assert str(house.log / "worker.log") in house.said[0]


def test_the_wait_doubles_up_to_a_bound():
    waits = [Backoff(first_s=0.5, most_s=30).delay_s(n) for n in range(1, 9)]

    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_child_that_never_comes_up_is_one_sentence_with_its_last_line(house):
    async def never() -> bool:
        return False

    async def play():
        with pytest.raises(Stop) as stop:
            await house.supervisor.start(
                shell("broken", "echo could not bind; exit 3", ready=never, mend="Do this.")
            )
        return str(stop.value)

    sentence = asyncio.run(play())

    assert sentence.startswith("broken ended: could not bind. Do this.")
    assert "broken.log" in sentence


def test_children_stop_in_reverse_order(house, tmp_path):
    diary = tmp_path / "diary"

    def writer(name: str) -> Service:
        return shell(
            name, f"trap 'echo {name} >>{diary}; exit 0' TERM; while :; do sleep 0.05; done"
        )

    async def play():
        await house.supervisor.start(writer("first"))
        await house.supervisor.start(writer("second"))
        await asyncio.sleep(0.3)
        await house.supervisor.stop()

    asyncio.run(play())

    assert diary.read_text().split() == ["second", "first"]


def test_a_child_that_does_not_stop_is_killed_with_its_own_children(house, tmp_path):
    pids = tmp_path / "pids"

    async def play():
        await house.supervisor.start(
            shell(
                "stubborn",
                f"trap '' TERM; sleep 60 & echo $! >{pids}; while :; do sleep 1; done",
                stop_s=0.3,
            )
        )
        await eventually(lambda: pids.exists() and pids.read_text().strip())
        await house.supervisor.stop()
        await eventually(lambda: not is_alive(int(pids.read_text())))

    asyncio.run(play())

    assert list(house.run.iterdir()) == []


def test_a_large_log_is_put_aside(house):
    (house.log / "child.log").write_bytes(b"x" * 10_000_001)

    async def play():
        await house.supervisor.start(shell("child", "echo fresh; exec sleep 60"))
        await eventually(lambda: "fresh" in (house.log / "child.log").read_text())
        await house.supervisor.stop()

    asyncio.run(play())

    assert (house.log / "child.log.1").stat().st_size == 10_000_001


PARENT = """
import asyncio, os, sys
from pathlib import Path
from keyvault.launcher.supervisor import Service, Supervisor

async def main(root):
    supervisor = Supervisor(log_dir=root, run_dir=root, say=print)
    await supervisor.start(Service("child", ["/bin/sleep", "60"], dict(os.environ)))
    print(supervisor.pid("child"), flush=True)
    await asyncio.sleep(60)

asyncio.run(main(Path(sys.argv[1])))
"""


def _supervised_child(root: Path) -> tuple[subprocess.Popen[str], int]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(root)], stdout=subprocess.PIPE, text=True
    )
    return parent, int(parent.stdout.readline())


def test_the_kernel_ends_a_child_whose_supervisor_was_killed(tmp_path):
    parent, child = _supervised_child(tmp_path)

    parent.kill()
    parent.communicate()

    asyncio.run(eventually(lambda: not is_alive(child)))


def test_leftovers_are_ended_by_pid_and_start_time(tmp_path):
    left = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    children.note(tmp_path, "left", left.pid)
    (tmp_path / "gone.pid").write_text("999999999 1\n")

    assert children.end_leftovers(tmp_path) == ["left"]
    assert left.wait() == -signal.SIGINT
    assert list(tmp_path.iterdir()) == []


def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(tmp_path):
    stranger = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    (tmp_path / "postgresql.pid").write_text(f"{stranger.pid} 1\n")

    assert children.end_leftovers(tmp_path) == []
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
