"""Rotate a real PostgreSQL role and a real Valkey user under load: `./kv bench rotation`.

A whole demo is started, with its own target servers. Consumers use each key all
the time and follow its version through the gateway, or in the env files and the
OpenBao secret where keyvault lays it; not one of their requests may meet a dead
credential. Both keys are rotated side by side; with `--kill` the worker is ended
by SIGKILL in each rotation. With `--mass N` so many keys are rotated as one batch
instead, and the worker is ended in the middle of it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from keyvault.launcher.installation import ROOT
from tests.load import bench_mass, openbao
from tests.servers import Stack, free_port

TERMS = {"KEYVAULT_ROTATION_GRACE_SECONDS": "120", "KEYVAULT_ROTATION_QUIET_SECONDS": "1"}
NOT_SLOWED = {f"KEYVAULT_GATEWAY_{what}_RATE": "1000000" for what in ("AGENT", "SOURCE", "REFUSAL")}
KEYS = ("rotated-role", "rotated-user")


def main() -> None:
    """Run the consumers and the rotations, print the table, fail when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rotations", type=int, default=100, help="of each of the two keys")
    parser.add_argument("--consumers", type=int, default=50, help="of each of the two keys")
    parser.add_argument("--kill", action="store_true", help="the worker, in each rotation")
    parser.add_argument("--rate", type=float, default=20, help="requests a second of each")
    parser.add_argument("--mass", type=int, default=0, help="so many keys of Valkey as one batch")
    parser.add_argument("--places", type=int, default=40, help="at once, with --mass")
    given = parser.parse_args()
    if given.mass:
        mass(given.mass, given.places)
        return
    ends, counts = under_load(given.rotations, given.consumers, given.rate, with_kills=given.kill)
    show(ends, counts)
    failed = sum(count["failed"] for count in counts.values())
    if failed or any(end["state"] != "completed" for found in ends.values() for end in found):
        sys.exit("a request failed, or a rotation did not come to its end")


def under_load(
    rotations: int, consumers: int, rate: float, *, with_kills: bool
) -> tuple[dict[str, list[dict]], dict[str, Counter]]:
    """Start a demo with its consumers and places, and rotate: see `measure`."""
    with (
        tempfile.TemporaryDirectory(prefix="kv-rotation-") as home,
        openbao.running(Path(home) / "bao", free_port(), free_port()) as bao,
        _stack(Path(home)) as stack,
    ):
        said = {"agents": run(stack, "rotating", "make", str(consumers))}
        token = bao.root.headers["X-Vault-Token"]
        shelves = run(stack, "laying", f"{home}/files", bao.url, token)
        users = {key: said | {"shelves": shelves[key]} for key in KEYS}
        return measure(stack, users, rotations, rate, with_kills=with_kills)


def mass(count: int, places: int) -> None:
    """Rotate many keys as one batch, print what was measured, fail on whatever is not true."""
    more = {"KEYVAULT_ROTATION_PER_CONNECTION": str(places)}
    with (
        tempfile.TemporaryDirectory(prefix="kv-mass-") as home,
        _stack(Path(home), more) as stack,
    ):
        course = bench_mass.run(stack, count)
    for line in bench_mass.lines(course, count, places):
        say(line)
    faults = course.faults(count)
    if faults:
        sys.exit("\n".join(faults))


@contextmanager
def _stack(home: Path, more: dict[str, str] | None = None):
    # The environment of this process is kept out of a stack.
    files = home / "files"
    files.mkdir(mode=0o700)
    settings = TERMS | NOT_SLOWED | {"KEYVAULT_ENV_FILE_ROOTS": str(files)} | (more or {})
    stack = Stack(home / "data", home / "keys", free_port(), ("--demo",), settings)
    try:
        yield stack.start()
    finally:
        stack.stop()


def measure(
    stack: Stack, users: dict[str, dict], rotations: int, rate: float, *, with_kills: bool
) -> tuple[dict[str, list[dict]], dict[str, Counter]]:
    """Rotate both keys side by side under load; return how each rotation ended, and the counts."""
    consumers = {key: _consumers(stack, key, users[key], rate) for key in KEYS}
    time.sleep(3)
    ends = {key: [] for key in KEYS}
    owners = {key: _start(stack, "rotating", "rotate", key) for key in KEYS}
    for number in range(rotations):
        for owner in owners.values():
            owner.stdin.write("\n")
            owner.stdin.flush()
        if with_kills:
            # Another moment of the rotation each time, over all that it takes.
            time.sleep(1 + 6 * number / rotations)
            stack.kill("worker")
        for key, owner in owners.items():
            ends[key].append(json.loads(owner.stdout.readline()))
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{number + 1} of {rotations} ")
    for owner in owners.values():
        owner.communicate("")
    counts = {}
    for key, process in consumers.items():
        counts[key] = Counter(json.loads(process.communicate("")[0]))
    return ends, counts


def run(stack: Stack, *words: str) -> dict:
    """Run a module of `tests.load` inside the installation and return what it printed."""
    process = _start(stack, *words)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"tests.load.{words[0]} failed")
    return json.loads(output)


def show(ends: dict[str, list[dict]], counts: dict[str, Counter]) -> None:
    """Print one line for each key, and what went wrong."""
    say(f"{'key':<14}{'rotations':>10}{'median s':>10}{'slowest s':>11}{'served':>10}{'failed':>8}")
    for key, found in ends.items():
        seconds = [end["seconds"] for end in found]
        done = sum(end["state"] == "completed" for end in found)
        say(
            f"{key:<14}{done:>10}{statistics.median(seconds):>10.1f}{max(seconds):>11.1f}"
            f"{counts[key]['served']:>10,}{counts[key]['failed']:>8}"
        )
        for word, number in counts[key].items():
            if word not in {"served", "failed", "logins"}:
                say(f"    {word}: {number}")
        for end in found:
            if end["state"] != "completed":
                say(f"    {end['state']}: {end['sentence']}")


def say(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _consumers(stack: Stack, key: str, users: dict, rate: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.load.consumers", key, str(rate)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "KEYVAULT_URL": stack.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process.stdin.write(json.dumps(users) + "\n")
    process.stdin.flush()
    return process


def _start(stack: Stack, module: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", f"tests.load.{module}", *words],
        env={**os.environ, **stack.environment(), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


if __name__ == "__main__":
    main()
