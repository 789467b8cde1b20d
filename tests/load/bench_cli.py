"""Measure how soon the command line answers: `./kv bench cli`.

Beside it stands the bare interpreter. The commands take turns, so that what
else the machine does falls on all alike. The clock is what a person waits;
the processor time is what the commands themselves need, on a busy machine too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

from keyvault.launcher.installation import ROOT
from tests.servers import free_port

MOST_MS = 100
_KEYVAULT = ["-P", "-m", "keyvault.cli"]
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "keyvault --help": [*_KEYVAULT, "--help"],
    "keyvault get, nobody there": [*_KEYVAULT, "get", "a-key"],
}


@dataclass
class Starts:
    """How long each start of one command took, in milliseconds."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def main() -> None:
    """Start each command in turn, print the medians and whether the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    taken = {name: Starts() for name in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="kv-bench-") as home:
        env = _environment(home)
        for arguments in COMMANDS.values():
            _start(arguments, env)  # Compiled and in memory before the first that counts.
        for _round in range(rounds):
            for name, arguments in COMMANDS.items():
                clock, processor = _start(arguments, env)
                taken[name].clock.append(clock)
                taken[name].processor.append(processor)
    _show(taken)


def _environment(home: str) -> dict[str, str]:
    """Return the environment of somebody with a token, whose console is not there."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": home,
        "KEYVAULT_URL": f"http://127.0.0.1:{free_port()}",
        "KEYVAULT_TOKEN": "kvt_bench",
    }


def _start(arguments: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Run one command to its end; return milliseconds by the clock and of the processor."""
    at = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # wait4 tells what this child used, in microseconds; os.times() counts in ticks of 10 ms.
    _pid, status, used = os.wait4(process.pid, 0)
    clock = time.perf_counter() - at
    process.returncode = os.waitstatus_to_exitcode(status)
    return clock * 1000, (used.ru_utime + used.ru_stime) * 1000


def _show(taken: dict[str, Starts]) -> None:
    rounds = len(next(iter(taken.values())).clock)
    sys.stdout.write(
        f"medians of {rounds} starts, ms; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n"
        f"{'':30}{'clock':>8}{'processor':>12}\n"
    )
    for name, starts in taken.items():
        clock, processor = statistics.median(starts.clock), statistics.median(starts.processor)
        bar = f"   under {MOST_MS} ms: {'met' if clock < MOST_MS else 'MISSED'}"
        is_ours = name.startswith("keyvault")
        sys.stdout.write(f"{name:30}{clock:8.1f}{processor:12.1f}{bar if is_ours else ''}\n")


if __name__ == "__main__":
    main()
