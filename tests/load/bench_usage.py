"""Measure reports of use beside a raw COPY, and reads while they come in: `./kv bench usage`.

The floor is what the machine does at that moment: the same rows by the same
statement into the same table, without judging and without sums. Pages are read
alone and again while reports arrive at 5,000 events a second, over a table of
sums that holds a million rows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import django

BATCH, TARGET = 1000, 5000
_FILL = """
INSERT INTO keyvault_usagehour (key_id, agent_id, host, kind, hour, count, last_at)
SELECT k.id, a.id, 'h' || h || '.example.com', 'reported', t, 5, t
FROM (SELECT id FROM keyvault_key ORDER BY name LIMIT %s) k
CROSS JOIN (SELECT id FROM keyvault_agent ORDER BY name LIMIT 2) a
CROSS JOIN generate_series(1, 3) h
CROSS JOIN generate_series(date_trunc('hour', now()) - interval '399 days',
    date_trunc('hour', now()) - interval '1 hour', interval '1 hour') t
"""


def main() -> None:
    """Migrate an empty database, fill it, report, read, print the table."""
    options = _options()
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    _install_keys()
    world = _world(options.rows)
    floor, rate, wide = [], [], []
    for _ in range(options.rounds):
        floor.append(_timed(options.events, lambda: _copy(world, options.events)))
        rate.append(_timed(options.events, lambda: _report(world, options.events)))
        wide.append(_timed(options.events, lambda: _report(world, options.events, is_wide=True)))
    alone = _pages(world, options.reads)
    beside, kept = _beside(world, options.reads)
    rates = {"reports, usual: 14 sums": rate, "reports, widest: 1,000 sums": wide}
    _show(options, world, floor, rates, alone, beside, kept)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000, help="events a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1_000_000, help="sums in the table, at least")
    parser.add_argument("--reads", type=int, default=100, help="pages read")
    return parser.parse_args()


def _install_keys() -> None:
    from django.conf import settings

    from approvals import ports
    from keyvault.accounts.directory import Directory
    from keyvault.accounts.presence import Presence
    from keyvault.audit import ledger
    from keyvault.crypto import digest, keyring, keys_dir
    from tests.conftest import Unlimited

    path = settings.KEYS_DIR / "bench"
    if not path.exists():
        keys_dir.create(path)
    found = keys_dir.load(path)
    digest.install(found.index)
    ring = keyring.load(f"file:{path / 'kek'}", environ={}, budget=Unlimited())
    keyring.install(ring)
    ports.bind(recorder=ledger, signer=found.receipt, directory=Directory(), presence=Presence())


def _world(rows: int) -> dict[str, Any]:
    """Make keys and agents, and at least so many sums of 400 days."""
    from django.db import connection

    from keyvault.usage.models import UsageHour
    from tests import cast as people
    from tests.keyvault.agents import builders as agents
    from tests.keyvault.inventory import builders as keys

    cast = people.assemble()
    bots = [agents.agent(cast, f"bot-{number}") for number in range(2)]
    per_key = 2 * 3 * 399 * 24
    made = [keys.live(cast, name=f"key-{n:02}") for n in range(max(1, -(-rows // per_key)))]
    for key in made:
        agents.granted(cast, bots[0], key)
    with connection.cursor() as cursor:
        cursor.execute(_FILL, [len(made)])
        cursor.execute("ANALYZE")
    return {"bot": bots[0], "keys": made, "rows": UsageHour.objects.count(), "alice": cast.alice}


def _timed(events: int, work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return events / (time.perf_counter() - began)


def _copy(world: dict[str, Any], events: int) -> None:
    """Copy rows in batches of 1,000, each in its own transaction, and do nothing else."""
    from django.db import connection, transaction

    from keyvault.usage.services import _COPY

    now = datetime.now(UTC)
    rows = [
        (now, world["bot"].pk, None, now, world["keys"][n % len(world["keys"])].pk, 1, "db.example.com", 1)
        for n in range(BATCH)
    ]  # fmt: skip
    for _ in range(events // BATCH):
        with transaction.atomic(), connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            for row in rows:
                copy.write_row(row)


def _report(world: dict[str, Any], events: int, *, is_wide: bool = False) -> None:
    for _ in range(events // BATCH):
        _report_batch(world, is_wide=is_wide)


def _report_batch(world: dict[str, Any], *, is_wide: bool = False) -> None:
    """Report one batch: two keys at seven hosts in one hour, or each event a sum of its own."""
    from keyvault.usage import services
    from keyvault.usage.services import Reported

    now = datetime.now(UTC)
    keys = world["keys"] if is_wide else world["keys"][:2]
    spread = timedelta(minutes=7) if is_wide else timedelta(0)
    batch = [
        Reported(keys[n % len(keys)].name, now - n % 180 * spread, f"h{n // len(keys) % 7}.example")
        for n in range(BATCH)
    ]
    result = services.report(principal=world["bot"], events=batch, now=now)
    if result.accepted != BATCH:
        raise SystemExit(f"the benchmark was refused: {result.refused[0]}")


def _pages(world: dict[str, Any], reads: int) -> dict[str, list[float]]:
    """Return how long the questions of each page took, in milliseconds."""
    from keyvault.usage import selectors

    found: dict[str, list[float]] = {"usage of a key": [], "overview": [], "usage of an agent": []}
    for number in range(reads):
        now = datetime.now(UTC)
        key_id, since = world["keys"][number % len(world["keys"])].pk, selectors.first_day(now)
        looks: dict[str, Callable[[], object]] = {
            "usage of a key": lambda key_id=key_id, now=now, since=since: (
                selectors.usage_of(key_id, since=since, now=now),
                selectors.latest_reports(key_id, now=now),
            ),
            "overview": lambda key_id=key_id, now=now: (
                selectors.days_of(key_id, now=now),
                selectors.last_use(key_id),
            ),
            "usage of an agent": lambda now=now, since=since: selectors.usage_by(
                world["bot"].pk, since=since, now=now
            ),
        }
        for name, look in looks.items():
            began = time.perf_counter()
            look()
            found[name].append((time.perf_counter() - began) * 1000)
    return found


def _beside(world: dict[str, Any], reads: int) -> tuple[dict[str, list[float]], float]:
    """Read pages while a thread reports 5,000 events a second; return times and the rate kept."""
    from django.db import connections

    done, sent = threading.Event(), [0]
    began = time.perf_counter()

    def write() -> None:
        try:
            while not done.is_set():
                _report_batch(world)
                sent[0] += BATCH
                due = began + sent[0] / TARGET
                done.wait(max(0.0, due - time.perf_counter()))
        finally:
            connections.close_all()

    writer = threading.Thread(target=write)
    writer.start()
    found = _pages(world, reads)
    rate = sent[0] / (time.perf_counter() - began)
    done.set()
    writer.join()
    return found, rate


def _show(
    options: argparse.Namespace,
    world: dict[str, Any],
    floor: list[float],
    rates: dict[str, list[float]],
    alone: dict[str, list[float]],
    beside: dict[str, list[float]],
    kept: float,
) -> None:
    base = statistics.median(floor)
    rounds = f"{options.rounds} rounds of {options.events:,} events, batches of {BATCH:,}, medians"
    head = f"{'questions of a page, ms':<32}{'alone p50':>12}{'p99':>9}"
    lines = [
        f"{rounds}; {world['rows']:,} sums, {len(world['keys'])} keys",
        f"{'raw COPY of the same rows':<30}{base:>12,.0f} /s   1",
    ]
    for name, found in rates.items():
        reports = statistics.median(found)
        lines.append(f"{name:<30}{reports:>12,.0f} /s   1/{base / reports:,.1f}")
    lines += ["", f"{head}{f'at {kept:,.0f} /s p50':>20}{'p99':>9}"]
    for name, times in alone.items():
        lines.append(f"{name:<32}{_two(times):>21}{_two(beside[name]):>29}")
    sys.stdout.write("\n".join(lines) + "\n")


def _two(times: list[float]) -> str:
    return f"{statistics.median(times):.1f}{statistics.quantiles(times, n=100)[98]:>9.1f}"


if __name__ == "__main__":
    main()
