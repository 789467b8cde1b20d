"""Measure the ledger beside what this machine can do: `./kv bench ledger`.

Rates are given beside the raw SHA-256 rate of one thread of Python. Inserts
are given beside a floor: the plainest program for the same rows in a table with
the same indexes, each writer in a process of its own. Both are
measured in the same run, so that runs on different machines, and under different
loads, can be compared. Every figure is the median of several rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

import django
import psycopg
from django.conf import settings

from tests.load import crowds
from tests.load.crowds import Load, Timing, Write

BLOCK = b"x" * 450  # About the size of one event's canonical bytes.
WRITERS = 16
OFFERED = 500.0  # Events a second at which the latency of an insert is asked for.
FLOOR = "bench_floor"


def main() -> None:
    """Migrate an empty database, write, sequence, verify, print the table."""
    options = _options()
    django.setup()
    _prepare()
    found: dict[str, list[float]] = defaultdict(list)
    before = os.getloadavg()[0]
    for _ in range(options.rounds):
        for name, figure in _round(options).items():
            found[name].append(figure)
    _show(options, before, {name: statistics.median(figures) for name, figures in found.items()})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=4000, help="events of each measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--processes", type=int, default=4, help=f"that share the {WRITERS} writers"
    )
    return parser.parse_args()


def _prepare() -> None:
    from django.core.management import call_command
    from django.db import connection

    from keyvault.audit import checkpoints
    from keyvault.crypto import keys_dir

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {FLOOR} (LIKE keyvault_event INCLUDING ALL)")
    path = settings.KEYS_DIR / "bench"
    if not path.exists():
        keys_dir.create(path)
    checkpoints.install(keys_dir.load(path).checkpoint)


def _round(options: argparse.Namespace) -> dict[str, float]:
    """Return every figure once, by its name in the table."""
    from keyvault.audit import sequencer
    from tests.load.sequencing import sequencer_beside

    figures = {"raw": _raw_rate()}
    for pace, rate in (("fast", None), ("paced", OFFERED)):
        load = Load(options.processes, WRITERS // options.processes, options.events, rate)
        with sequencer_beside() as share:
            figures |= _figures(f"{pace} ledger", crowds.run(_ledger_writer, load))
        figures[f"{pace} sequencer"] = share()
        sequencer.drain()
        alone = Load(WRITERS, 1, options.events, rate)
        figures |= _figures(f"{pace} floor", crowds.run(_floor_writer, alone))
    return figures | {"backlog": _sequence(options.events), "verify": _verify()}


def _figures(name: str, timing: Timing) -> dict[str, float]:
    figures = {f"{name} rate": timing.rate}
    for part, seconds in (("insert", timing.inserts), ("whole", timing.wholes)):
        figures[f"{name} {part} median"] = statistics.median(seconds) * 1000
        figures[f"{name} {part} p99"] = statistics.quantiles(seconds, n=100)[98] * 1000
    return figures


def _raw_rate() -> float:
    """Return SHA-256 hashes a second over event-sized blocks, in one thread of Python."""
    began, count = time.perf_counter(), 200_000
    for _ in range(count):
        sha256(BLOCK).digest()
    return count / (time.perf_counter() - began)


@contextmanager
def _ledger_writer() -> Iterator[Write]:
    """Write as the product does: one transaction, and one event in it."""
    from django.db import connection, transaction

    from approvals.ports import Actor, Subject
    from keyvault.audit import ledger

    def write(number: int) -> float:
        with transaction.atomic():
            began = time.perf_counter()
            ledger.record(
                "request.commented",
                actor=Actor("user", "bench", "Bench"),
                subject=Subject("key", str(number % 100), f"key-{number % 100}"),
                now=datetime.now(UTC),
                fields={"comment": f"line {number}"},
            )
            return time.perf_counter() - began

    try:
        yield write
    finally:
        connection.close()


@contextmanager
def _floor_writer() -> Iterator[Write]:
    """Write the same rows with the driver alone: BEGIN, one prepared INSERT, COMMIT."""
    from django.db import connection

    from keyvault.audit.entries import COLUMNS

    columns = [name for name in COLUMNS if name != "at"]
    row = dict.fromkeys(columns, "") | {
        "event": "request.commented", "outcome": "ok", "request_id": None, "actor_kind": "user",
        "actor_id": "bench", "actor_label": "Bench", "subject_kind": "key",
    }  # fmt: skip
    places = ", ".join(f"%({name})s" for name in columns)
    insert = f"INSERT INTO {FLOOR} ({', '.join(columns)}) VALUES ({places})"

    def write(number: int) -> float:
        began = time.perf_counter()
        own = {
            "id": uuid4(), "acted_at": datetime.now(UTC), "subject_id": str(number % 100),
            "subject_label": f"key-{number % 100}",
            "fields": json.dumps({"comment": f"line {number}"}),
        }  # fmt: skip
        link.execute(insert, row | own)
        took = time.perf_counter() - began
        link.commit()
        return took

    given = connection.get_connection_params()
    keys = ("host", "port", "dbname", "user", "password")
    with psycopg.connect(**{key: given[key] for key in keys if key in given}) as link:
        yield write


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


def _show(options: argparse.Namespace, before: float, figures: dict[str, float]) -> None:
    threads = WRITERS // options.processes
    crowd = f"{options.processes} processes of {threads} for the ledger, {WRITERS} for the floor"
    lines = [
        f"{options.rounds} rounds of {options.events} events a measure, medians",
        f"{WRITERS} writers: {crowd}; {os.cpu_count()} cores, load average {before:.1f} before",
        _durability(),
        "",
        *_rates(figures),
        "",
        f"{'milliseconds':<38}{'ledger':>8}{'floor':>8}{'ratio':>8}",
        *_latencies(figures),
        "",
        "sequencer, share of a core: "
        + ", ".join(
            f"{figures[f'{pace} sequencer']:.2f} {words}" for pace, words in _PACES.items()
        ),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


_PACES = {"fast": "at full speed", "paced": f"at {OFFERED:.0f} events/s"}
_RATES = {
    "raw": "raw SHA-256, 450-byte blocks",
    "fast ledger rate": "ingest, sequencer running",
    "fast floor rate": "floor: driver alone",
    "backlog": "sequence backlog",
    "verify": "verify",
}
_PARTS = {"insert": "insert", "whole": "transaction"}


def _rates(figures: dict[str, float]) -> Iterator[str]:
    base = figures["raw"]
    for name, words in _RATES.items():
        yield f"{words:<38}{figures[name]:>10,.0f} /s   1/{base / figures[name]:,.0f}"


def _latencies(figures: dict[str, float]) -> Iterator[str]:
    for pace, when in _PACES.items():
        for part, what in _PARTS.items():
            for point in ("median", "p99"):
                ours, floor = (figures[f"{pace} {of} {part} {point}"] for of in ("ledger", "floor"))
                words = f"{what} {when}, {point}"
                yield f"{words:<38}{ours:>8.1f}{floor:>8.1f}{ours / floor:>8.1f}"


def _durability() -> str:
    """Return the server's own words for what a commit waits for."""
    from django.db import connection

    found = []
    with connection.cursor() as cursor:
        for name in ("fsync", "synchronous_commit"):
            cursor.execute(f"SHOW {name}")
            found.append(f"{name} {cursor.fetchone()[0]}")
    return ", ".join(found)


if __name__ == "__main__":
    main()
