"""Measure the ledger beside the machine's raw SHA-256 rate: `./kv bench ledger`.

Every figure is the median of several rounds in one run, and is also given as a
share of the raw rate of this machine at that moment, so that runs on different
machines, and under different loads, can be compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

import django
from django.conf import settings

WRITERS = 16
BLOCK = b"x" * 450  # About the size of one event's canonical bytes.


def main() -> None:
    """Migrate an empty database, write, sequence, verify, print the table."""
    options = _options()
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    _install_keys()
    raw, ingest, placed, verified, slow = [], [], [], [], []
    for _ in range(options.rounds):
        raw.append(_raw_rate())
        rate, latencies = _ingest(options.events)
        ingest.append(rate)
        slow.append(statistics.quantiles(latencies, n=100)[98] * 1000)
        placed.append(_sequence(options.events))
        verified.append(_verify())
    _show(options, raw, {"ingest, sequencer running": ingest, "sequence backlog": placed,
                         "verify": verified}, slow)  # fmt: skip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=4000, help="events a round")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _install_keys() -> None:
    from keyvault.audit import checkpoints
    from keyvault.crypto import keys_dir

    path = settings.KEYS_DIR / "bench"
    if not path.exists():
        keys_dir.create(path)
    checkpoints.install(keys_dir.load(path).checkpoint)


def _raw_rate() -> float:
    """Return SHA-256 hashes a second over event-sized blocks, in one thread of Python."""
    began, count = time.perf_counter(), 200_000
    for _ in range(count):
        sha256(BLOCK).digest()
    return count / (time.perf_counter() - began)


def _record(number: int) -> None:
    from django.db import transaction

    from approvals.ports import Actor, Subject
    from keyvault.audit import ledger

    with transaction.atomic():
        ledger.record(
            "request.commented",
            actor=Actor("user", "bench", "Bench"),
            subject=Subject("key", str(number % 100), f"key-{number % 100}"),
            now=datetime.now(UTC),
            fields={"comment": f"line {number}"},
        )


def _ingest(events: int) -> tuple[float, list[float]]:
    """Return committed events a second with 16 writers and a sequencer, and each latency."""
    from keyvault.audit import sequencer

    latencies: list[float] = []
    done = threading.Event()

    def write(first: int) -> None:
        for number in range(first, events, WRITERS):
            began = time.perf_counter()
            _record(number)
            latencies.append(time.perf_counter() - began)

    def sequence() -> None:
        while not done.wait(0.05):
            sequencer.run_once()

    keeper = _thread(sequence)
    began = time.perf_counter()
    for thread in [_thread(lambda first=first: write(first)) for first in range(WRITERS)]:
        thread.join()
    rate = events / (time.perf_counter() - began)
    done.set()
    keeper.join()
    sequencer.drain()
    return rate, latencies


def _thread(work: Callable[[], None]) -> threading.Thread:
    from django.db import connections

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def _sequence(events: int) -> float:
    """Return events a second that the sequencer places when it catches up."""
    from keyvault.audit import sequencer
    from keyvault.audit.models import Event

    now = datetime.now(UTC)
    Event.objects.bulk_create(
        Event(
            acted_at=now, event="request.commented", actor_kind="user", actor_id="bench",
            actor_label="Bench", subject_kind="key", subject_id="1", subject_label="key-1",
            fields={"comment": f"line {number}"},
        )
        for number in range(events)
    )  # fmt: skip
    began = time.perf_counter()
    sequencer.drain()
    return events / (time.perf_counter() - began)


def _verify() -> float:
    from keyvault.audit import checkpoints, verify

    checkpoints.run_once(datetime.now(UTC), is_forced=True)
    result = verify.verify(datetime.now(UTC))
    if not result.is_intact:
        raise SystemExit(f"the ledger of the benchmark is not intact: {result.problems[0]}")
    return result.events_per_s


def _show(
    options: argparse.Namespace, raw: list[float], rates: dict[str, list[float]], slow: list[float]
) -> None:
    base = statistics.median(raw)
    lines = [
        f"{options.rounds} rounds of {options.events} events, {WRITERS} writers, medians",
        f"{'raw SHA-256, 450-byte blocks':<28}{base:>12,.0f} /s   1",
    ]
    for name, found in rates.items():
        rate = statistics.median(found)
        lines.append(f"{name:<28}{rate:>12,.0f} /s   1/{base / rate:,.0f}")
    lines.append(f"{'insert, 99th percentile':<28}{statistics.median(slow):>12,.1f} ms")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
