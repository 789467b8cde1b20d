"""Rotate many keys of a real Valkey as one batch, and kill the worker in the middle.

A part of `./kv bench rotation`: see there. Every look at the batch must add up
to all of its keys, each key must be rotated once, and no old version may live.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keyvault.launcher.installation import ROOT
from tests.servers import Stack

Look = dict[str, Any]
# With these many jobs due and not taken, somebody waits for the worker nearly always.
_MANY_WAIT = 3
_MOSTLY = 0.9


@dataclass
class Course:
    """How a batch went: every look at it, what was killed when, and what is true at its end."""

    looks: list[Look] = field(default_factory=list)
    kills: int = 0
    worker_s: float = 0.0
    idle: float = 0.0
    verdict: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Return the seconds from the first look to the last."""
        return float(self.looks[-1]["at"] - self.looks[0]["at"])

    def faults(self, count: int) -> list[str]:
        """Return what must not be, in sentences; nothing when all is well."""
        wrong = [look for look in self.looks if _sum(look) != count or look["total"] != count]
        found = [f"a look does not add up to {count}: {look}" for look in wrong[:3]]
        went_back = [
            (before, after)
            for before, after in zip(self.looks, self.looks[1:], strict=False)
            if after["done"] < before["done"] or after["waiting"] > before["waiting"]
        ]
        found += [f"the progress went back: {pair}" for pair in went_back[:3]]
        expected = {
            "states": {"completed": count},
            "times_rotated": {"1": count},
            "live_versions": {"[2]": count},
        }
        found += [
            f"{name}: {self.verdict[name]}, expected {value}"
            for name, value in expected.items()
            if self.verdict[name] != value
        ]
        return found


def run(stack: Stack, count: int, *, kill_at: float = 1 / 3, hurry: bool = False) -> Course:
    """Make the keys, rotate them, and kill the worker once that part of them is done.

    hurry: do not wait until the leases of the killed worker have run out.
    """
    _once(stack, "make", str(count))
    batch = _once(stack, "rotate")["batch"]
    course = Course()
    began_s, idle_before = _processor_s(stack), _idle_and_all()
    for look in _follow(stack, batch):
        course.looks.append(look)
        if not course.kills and look["done"] >= count * kill_at:
            course.worker_s += _processor_s(stack) - began_s
            stack.kill("worker")
            course.kills, began_s = 1, 0.0
            if hurry:
                let_leases_end(stack)
    course.worker_s += _processor_s(stack) - began_s
    idle, whole = (after - b for after, b in zip(_idle_and_all(), idle_before, strict=True))
    course.idle = idle / whole
    course.verdict = _once(stack, "judge", batch)
    return course


def let_leases_end(stack: Stack) -> None:
    """Make what the killed worker held claimable, as the passing of a minute would."""
    with stack.sql() as link:
        link.execute(
            "UPDATE approvals_job SET lease_until = now() - interval '1 second'"
            " WHERE state = 'running'"
        )


def lines(course: Course, count: int, most: int) -> list[str]:
    """Return what is told of a course."""
    busy = course.worker_s / course.seconds
    full = statistics.fmean(look["is_full"] for look in course.looks if look["waiting"])
    waits = statistics.median(look["jobs_wait"] for look in course.looks)
    return [
        f"{count:,} keys in {course.seconds:,.0f} s: {count / course.seconds:.2f} rotations a second",
        f"looks: {len(course.looks):,}, each added up; worker killed by SIGKILL: {course.kills}",
        f"places at the Connection ({most}): all taken in {full:.0%} of the looks",
        f"jobs that waited for a worker, median: {waits:.0f}",
        f"the worker used {busy:.0%} of one core; the machine was idle for {course.idle:.0%}",
        f"limited by: {_limit(course, full, waits, most)}",
    ]


def _limit(course: Course, full: float, waits: float, most: int) -> str:
    if waits >= _MANY_WAIT and course.idle < 1 - _MOSTLY:
        return "the processors of this machine: jobs waited, and it was hardly ever idle"
    if waits >= _MANY_WAIT:
        return "the worker, one process: jobs waited while the machine had time left"
    if full >= _MOSTLY:
        return f"KEYVAULT_ROTATION_PER_CONNECTION={most}"
    return "neither the worker nor the places"


def _sum(look: Look) -> int:
    states = ("waiting", "running", "held", "done", "rolled_back", "skipped")
    return sum(look[name] for name in states)


def _processor_s(stack: Stack) -> float:
    """Return the seconds of processor time that the worker has used since it was started."""
    stat = Path(f"/proc/{stack.pid('worker')}/stat").read_text(encoding="ascii")
    user, system = stat.rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _idle_and_all() -> tuple[float, float]:
    """Return the time that the machine's processors were idle, and all of their time."""
    line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    spent = [float(one) for one in line.split()[1:9]]
    return spent[3] + spent[4], sum(spent)


def _follow(stack: Stack, batch: str) -> Iterator[Look]:
    with _start(stack, "follow", batch) as process:
        for line in process.stdout or ():
            look = json.loads(line)
            if sys.stderr.isatty():
                told = f"{look['done']} done, {look['open']} open, {look['waiting']} wait"
                sys.stderr.write(f"\r{told} ")
            yield look
    if process.returncode:
        raise SystemExit("the batch could not be followed")


def _once(stack: Stack, *words: str) -> dict[str, Any]:
    process = _start(stack, *words)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"tests.load.mass {' '.join(words)} failed")
    found: dict[str, Any] = json.loads(output)
    return found


def _start(stack: Stack, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.load.mass", *words],
        env={**os.environ, **stack.environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
