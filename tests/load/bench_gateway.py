"""Measure the gateway beside a real OpenBao: `./kv bench gateway`.

Both serve the same random values under the same names; wrk reads random keys
with sixteen tokens over 1, 32 and 256 connections. The servers take turns, so
that what else the machine does falls on all alike; read the ratios, which are
medians over the rounds of one run, and not the figures.

    ./kv bench gateway --keys 100000 --alone    # memory; OpenBao takes minutes to fill
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import django
import httpx

from keyvault.launcher import children, processes
from keyvault.launcher.installation import ROOT
from tests.load import openbao, wrk
from tests.load.openbao import OpenBao
from tests.load.wrk import Run, Target

if TYPE_CHECKING:
    from tests.load.fleet import Fleet

CONNECTIONS = (1, 32, 256)
OPENBAO, DURABLE, PROCESS = "OpenBao", "gateway, durable", "gateway, process"
TWO = "durable, 2 processes"
_GATEWAYS = ((DURABLE, "durable", 1), (PROCESS, "process", 1), (TWO, "durable", 2))
_MEMORY_MOST_MB, _MEMORY_KEYS = 150, 100_000
_CHECKED = 300
_READY_S = 60


def main() -> None:
    """Start everything, take turns, print the table and whether each bar is met."""
    options = _options()
    wrk.require()
    django.setup()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from tests.load import fleet

    made = fleet.make(options.keys)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kv-bench-")))
        rival = None if options.alone else _rival(stack, options, scratch, made)
        gateways = _gateways(stack, options, scratch, made)
        targets = [rival.target, *gateways] if rival else gateways
        _check_answers(targets, made.values)
        before = rival.server.audited() if rival else 0, _recorded()
        runs = _take_turns(options, targets, scratch)
        _check_answers(targets, made.values)
        memory = {target.name: wrk.memory_mb(target.pid) for target in targets}
        _check_audit(rival, runs, before)
    _show(options, runs, memory)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="of each run")
    parser.add_argument("--port", type=int, default=0, help="first of five ports; free ones if 0")
    parser.add_argument("--alone", action="store_true", help="without OpenBao")
    return parser.parse_args()


def _ports(first: int, count: int) -> list[int]:
    """Return some ports. A busy one is refused: another server would be measured."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for number, probe in enumerate(probes):
            probe.bind(("127.0.0.1", first + number if first else 0))
        return [probe.getsockname()[1] for probe in probes]
    except OSError as error:
        raise SystemExit(f"A port is busy: {error}. Choose another --port.") from None
    finally:
        for probe in probes:
            probe.close()


@dataclass(frozen=True)
class Rival:
    """OpenBao, and how it is driven."""

    server: OpenBao
    target: Target


def _rival(stack: ExitStack, options: argparse.Namespace, scratch: Path, made: Fleet) -> Rival:
    ports = _ports(options.port + len(_GATEWAYS) if options.port else 0, 2)
    server = stack.enter_context(openbao.running(scratch / "openbao", *ports))
    server.fill(made.values)
    tokens = server.tokens(len(made.tokens))
    driven = Target(OPENBAO, server.url, "/v1/secret/data/", "X-Vault-Token", tokens, server.pid)
    return Rival(server, driven)


def _gateways(
    stack: ExitStack, options: argparse.Namespace, scratch: Path, made: Fleet
) -> list[Target]:
    targets = []
    ports = _ports(options.port, len(_GATEWAYS))
    for port, (name, mode, count) in zip(ports, _GATEWAYS, strict=True):
        url = f"http://127.0.0.1:{port}"
        pid = stack.enter_context(_gateway(scratch, made.keys_dir, mode, port, count))
        targets.append(Target(name, url, "/v1/keys/", "Authorization", made.tokens, pid))
    return targets


@contextmanager
def _gateway(scratch: Path, keys: Path, mode: str, port: int, count: int) -> Iterator[int]:
    url = f"http://127.0.0.1:{port}"
    env = {
        **os.environ,
        "KEYVAULT_KEYS_DIR": str(keys),
        "KEYVAULT_KEK": f"file:{keys / 'kek'}",
        "KEYVAULT_GATEWAY_AUDIT": mode,
        "KEYVAULT_GATEWAY_URL": url,
        "KEYVAULT_GATEWAY_SEGMENT_DIR": str(scratch / f"segments-{port}"),
        "PYTHONPATH": str(ROOT),
        children.SUPERVISED: "1",
    }
    with (scratch / f"gateway-{port}.log").open("wb") as log:
        argv = processes.gateway_command("127.0.0.1", port, count=count)
        process = subprocess.Popen(argv, env=env, stdout=log, stderr=log)
    try:
        _await_ready(url, count, scratch / f"gateway-{port}.log")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _await_ready(url: str, count: int, log: Path) -> None:
    """Wait until each process of a gateway has told the database what it has applied."""
    from keyvault.invalidation.models import GatewayInstance

    end = time.monotonic() + _READY_S
    while time.monotonic() < end:
        if GatewayInstance.objects.filter(address=url, ended_at=None).count() == count:
            return
        time.sleep(0.1)
    raise SystemExit(f"the gateway did not come up:\n{log.read_text()}")


def _take_turns(
    options: argparse.Namespace, targets: list[Target], scratch: Path
) -> dict[tuple[str, int], list[Run]]:
    runs = defaultdict(list)
    for number in range(options.rounds):
        for connections in CONNECTIONS:
            for target in targets:
                run = wrk.drive(
                    target,
                    keys=options.keys,
                    connections=connections,
                    seconds=options.seconds,
                    scratch=scratch,
                )
                runs[target.name, connections].append(run)
        _say(f"  round {number + 1} of {options.rounds} done")
    return runs


def _check_answers(targets: list[Target], values: dict[str, str]) -> None:
    """Read some keys and compare each with what was stored. Raises SystemExit."""
    names = list(values)
    for target in targets:
        with httpx.Client(base_url=target.url) as client:
            for _ in range(_CHECKED):
                name = secrets.choice(names)
                token = secrets.choice(target.tokens)
                bearer = f"Bearer {token}" if target.header == "Authorization" else token
                found = client.get(target.prefix + name, headers={target.header: bearer}).json()
                value = found["data"]["data"]["value"] if target.name == OPENBAO else found["value"]
                if value != values[name]:
                    raise SystemExit(f"{target.name} gave a wrong value for {name}.")


def _check_audit(
    rival: Rival | None, runs: dict[tuple[str, int], list[Run]], before: tuple[int, int]
) -> None:
    """See that every answer that wrk counted is on record. Raises SystemExit."""
    counts = defaultdict(int)
    for (name, _), made in runs.items():
        counts[name == OPENBAO] += sum(run.requests for run in made)
    if rival and rival.server.audited() - before[0] < counts[True]:
        raise SystemExit("OpenBao did not audit each of its answers.")
    end = time.monotonic() + _READY_S
    while _recorded() - before[1] < counts[False]:
        if time.monotonic() > end:
            raise SystemExit("The gateway did not record each of its answers.")
        time.sleep(0.5)


def _recorded() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(sum(count), 0) FROM keyvault_readsegment")
        return int(cursor.fetchone()[0])


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _show(
    options: argparse.Namespace,
    runs: dict[tuple[str, int], list[Run]],
    memory: dict[str, float],
) -> None:
    _say(
        f"\n{options.keys} random keys, {options.rounds} rounds of {options.seconds} s, medians;"
        f" ratio: median of the rounds' reads/s over OpenBao's"
    )
    _say(
        f"{'':>6} {'server':<22}{'reads/s':>9}{'ratio':>7}{'p50 ms':>8}{'p99 ms':>8}{'us/read':>9}"
    )
    for connections in CONNECTIONS:
        for name in memory:
            made = runs[name, connections]
            _say(
                f"{connections:>6} {name:<22}{_median(made, 'rate'):>9.0f}"
                f"{_ratio(runs, name, connections):>7.2f}{_median(made, 'p50_ms'):>8.2f}"
                f"{_median(made, 'p99_ms'):>8.2f}"
                f"{statistics.median(run.cpu_s / run.requests for run in made) * 1e6:>9.0f}"
            )
    for name, used in memory.items():
        _say(f"memory {name:<22}{used:>9.0f} MB")
    _say("load average " + " ".join(f"{load:.1f}" for load in os.getloadavg()))
    for sentence, is_met in [*_bars(runs, memory), *_memory_bar(options.keys, memory[DURABLE])]:
        _say(f"{'met    ' if is_met else 'NOT MET'} {sentence}")


def _bars(
    runs: dict[tuple[str, int], list[Run]], memory: dict[str, float]
) -> Iterator[tuple[str, bool]]:
    """Yield each bar beside OpenBao in words, and whether it is met."""
    if OPENBAO not in memory:
        return
    theirs = _median(runs[OPENBAO, 32], "p99_ms")
    for name in (DURABLE, TWO):
        ratio, ours = _ratio(runs, name, 32), _median(runs[name, 32], "p99_ms")
        yield f"32 connections, {name}: {ratio:.2f} times OpenBao's reads (bar: 4)", ratio >= 4
        yield f"32 connections, {name}: p99 {ours:.2f} ms, OpenBao {theirs:.2f} ms", ours < theirs
    one, other = (_median(runs[name, 1], "p50_ms") for name in (PROCESS, OPENBAO))
    yield f"1 connection, {PROCESS}: p50 {one:.3f} ms, OpenBao {other:.3f} ms", one <= other


def _memory_bar(keys: int, used: float) -> Iterator[tuple[str, bool]]:
    """Yield the bar of memory, which counts from a hundred thousand keys on."""
    if keys >= _MEMORY_KEYS:
        sentence = f"{keys} keys, {DURABLE}: {used:.0f} MB (bar: below {_MEMORY_MOST_MB})"
        yield sentence, used < _MEMORY_MOST_MB


def _median(runs: list[Run], member: str) -> float:
    return float(statistics.median(getattr(run, member) for run in runs))


def _ratio(runs: dict[tuple[str, int], list[Run]], name: str, connections: int) -> float:
    if (OPENBAO, connections) not in runs:
        return math.nan
    pairs = zip(runs[name, connections], runs[OPENBAO, connections], strict=True)
    return statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)


if __name__ == "__main__":
    main()
