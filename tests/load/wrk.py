"""Drive one server with wrk over random keys, and read off what it took."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_SCRIPT = """
local tails = {}
local head = "GET %(prefix)skey-"
%(tails)s
local count = #tails
math.randomseed(os.time())
request = function()
  return head .. math.random(0, %(keys)d - 1) .. tails[math.random(1, count)]
end
done = function(summary, latency, requests)
  io.write(string.format('{"requests":%%d,"duration_us":%%d,"p50_us":%%d,"p99_us":%%d,' ..
    '"refused":%%d,"broken":%%d}\\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Target:
    """What wrk is pointed at: address, header of the token, and the processes behind it."""

    name: str
    url: str
    prefix: str
    header: str
    tokens: list[str]
    pid: int


@dataclass(frozen=True)
class Run:
    """One run: answers a second, latencies in milliseconds, seconds of processor time used."""

    rate: float
    p50_ms: float
    p99_ms: float
    requests: int
    cpu_s: float


def require() -> None:
    """Say in one sentence what is missing. Raises SystemExit."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed. On Debian: apt-get install -y wrk")


def drive(target: Target, *, keys: int, connections: int, seconds: int, scratch: Path) -> Run:
    """Run wrk once. Raises SystemExit for a refused read or a server that did not work."""
    script = scratch / "reads.lua"
    script.write_text(
        _SCRIPT % {"prefix": target.prefix, "keys": keys, "tails": "\n".join(_tails(target))}
    )
    before = cpu_s(target.pid)
    done = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "10s",
            "-s",
            str(script),
            target.url,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    used = cpu_s(target.pid) - before
    told = json.loads(done.stdout.strip().splitlines()[-1])
    if told["refused"] or told["broken"]:
        raise SystemExit(f"{target.name} refused reads: {told}")
    if used <= 0:
        raise SystemExit(f"{target.name} used no processor time: something else answered.")
    return Run(
        rate=told["requests"] / told["duration_us"] * 1e6,
        p50_ms=told["p50_us"] / 1000,
        p99_ms=told["p99_us"] / 1000,
        requests=told["requests"],
        cpu_s=used,
    )


def _tails(target: Target) -> Iterable[str]:
    """Yield the rest of a request after its path, a line of Lua for each token.

    `wrk.format` would write the same anew for each request, in processor time that is
    the servers' too.
    """
    host = urlsplit(target.url).netloc
    for number, token in enumerate(target.tokens, 1):
        text = f"Bearer {token}" if target.header == "Authorization" else token
        lines = (" HTTP/1.1", f"Host: {host}", f"{target.header}: {text}", "", "")
        yield f"tails[{number}] = " + json.dumps("\r\n".join(lines))


def family(pid: int) -> list[int]:
    """Return a process and all of its descendants."""
    found = [pid]
    for parent in found:
        path = Path(f"/proc/{parent}/task/{parent}/children")
        found += [int(child) for child in path.read_text().split()]
    return found


def cpu_s(pid: int) -> float:
    """Return the processor time that a process and its descendants have used, in seconds."""
    ticks = 0
    for member in family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Return the memory of a process and its descendants, what they share counted once."""
    total = 0
    for member in family(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024
