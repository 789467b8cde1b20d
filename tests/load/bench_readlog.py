"""Measure the log of reads beside the disk itself: `./kv bench readlog`.

Appends are made by concurrent tasks on one uvloop, as the gateway makes them,
with PostgreSQL taking the segments meanwhile. CPU is that of the whole process
(loop, writer and shipper threads) divided by the appends. Beside it stand
writes of one such record by pwrite alone: to a file that is opened O_DSYNC, and
to the kernel.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import django
import uvloop
from django.conf import settings
from psycopg import connect

from keyvault.gateway.records import Mode
from keyvault.gateway.segment_files import SegmentFile
from keyvault.gateway.segments import Segments
from keyvault.gateway.shipping import Run, ship
from tests.keyvault.gateway.sample import read
from tests.keyvault.reads.builders import record

RECORD = b"x" * 260


def main() -> None:
    """Migrate an empty database, append, print the table."""
    options = _options()
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    place = Path(tempfile.mkdtemp(prefix="kv-readlog-", dir=options.directory))
    sys.stdout.write(
        f"{options.seconds} s each, on {place}\n"
        f"{'':34}{'a second':>12}{'CPU us each':>13}{'p50 ms':>9}{'p99 ms':>9}\n"
    )
    for mode in Mode:
        _show(f"pwrite alone, {mode}", *_raw(place, mode, options.seconds))
    _show("ship 50,000 in one statement", *_shipping())
    for mode in Mode:
        for tasks in (1, 32, 256):
            loop_of = uvloop.Loop if options.uvloop else None
            with asyncio.Runner(loop_factory=loop_of) as runner:
                found = runner.run(_appends(place / f"{mode}{tasks}", mode, tasks, options.seconds))
            _show(f"append, {mode}, {tasks} at once", *found)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--directory", default=str(settings.DATA_DIR.parent))
    parser.add_argument("--no-uvloop", action="store_false", dest="uvloop")
    return parser.parse_args()


def _show(what: str, count: int, wall: float, cpu: float, waits: list[float]) -> None:
    cuts = statistics.quantiles(waits, n=100)
    sys.stdout.write(
        f"{what:34}{count / wall:>12,.0f}{cpu / count * 1e6:>13.1f}"
        f"{cuts[49] * 1000:>9.2f}{cuts[98] * 1000:>9.2f}\n"
    )
    sys.stdout.flush()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _raw(place: Path, mode: Mode, seconds: float) -> tuple[int, float, float, list[float]]:
    path = place / f"raw-{mode}"
    SegmentFile.create(path, is_synced=False).close()
    fd = os.open(path, os.O_RDWR | (os.O_DSYNC if mode is Mode.DURABLE else 0))
    waits, size = [], path.stat().st_size
    began, cpu = time.perf_counter(), _cpu()
    while (now := time.perf_counter()) < began + seconds:
        os.pwrite(fd, RECORD, len(waits) * len(RECORD) % (size - len(RECORD)))
        waits.append(time.perf_counter() - now)
    found = len(waits), time.perf_counter() - began, _cpu() - cpu, waits
    os.close(fd)
    return found


def _shipping() -> tuple[int, float, float, list[float]]:
    """Return rows a second that one statement takes, and what each costs this process."""
    waits, cpu, count = [], 0.0, 50_000
    with connect(settings_url(), autocommit=True) as link:
        for _ in range(3):
            process = uuid4()
            records = [record(process, seq) for seq in range(1, count + 1)]
            began, used = time.perf_counter(), _cpu()
            ship(link, Run(process, 1, records, bytes(32)))
            waits.append(time.perf_counter() - began)
            cpu += _cpu() - used
    _check(3 * count)
    return 3 * count, sum(waits), cpu, waits


async def _appends(
    directory: Path, mode: Mode, tasks: int, seconds: float
) -> tuple[int, float, float, list[float]]:
    log, waits = Segments.open(directory, mode, settings_url()), []
    one = (read(),)
    await log.append(one)
    began, cpu = time.perf_counter(), _cpu()

    async def work() -> None:
        while (now := time.perf_counter()) < began + seconds:
            await log.append(one)
            waits.append(time.perf_counter() - now)

    await asyncio.gather(*(work() for _ in range(tasks)))
    wall, used = time.perf_counter() - began, _cpu() - cpu
    await asyncio.to_thread(log.close)
    _check(len(waits) + 1)
    return len(waits), wall, used, waits


def _check(appended: int) -> None:
    with connect(settings_url()) as link:
        row = link.execute("SELECT count(*) FROM keyvault_readevent").fetchone()
        link.execute("SET session_replication_role = replica")
        link.execute("TRUNCATE keyvault_readevent, keyvault_usagedue, keyvault_readsegment")
    if row[0] != appended:
        raise SystemExit(f"{appended} reads were appended, {row[0]} are in the database")


def settings_url() -> str:
    """Return the address of the benchmark's database."""
    return os.environ["DATABASE_URL"]


if __name__ == "__main__":
    main()
