"""What a dead process left: whole records are shipped once, torn ones never, damage is said."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import connections

from keyvault.audit.reads.models import ReadEvent, ReadSegment
from keyvault.gateway import segment_files, shipping
from keyvault.gateway.records import Mode
from keyvault.gateway.segment_files import Content, SegmentFile
from keyvault.gateway.segments import Segments
from tests.keyvault.gateway.builders import until
from tests.keyvault.gateway.reading import database_url, recovered
from tests.keyvault.gateway.sample import read
from tests.keyvault.reads.builders import record

PROCESS = UUID(int=77)


def _left(directory, records: list[bytes], *, process: UUID = PROCESS, number=1, first=1):
    """Leave a file as a killed process leaves it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = segment_files.path_of(directory, process, number)
    file = SegmentFile.create(path, is_synced=False, capacity=1 << 20)
    file.begin(process, first)
    for raw in records:
        frame = segment_files.pack_frame(len(raw), zlib.crc32(raw, file.seed)) + raw
        file.put(frame, 0)
    file.close()
    (directory / f"{process}.lock").touch(0o600)
    return path


def _records(count: int, *, first: int = 1, process: UUID = PROCESS) -> list[bytes]:
    return [record(process, seq) for seq in range(first, first + count)]


def test_a_file_gives_back_what_was_put_into_it(tmp_path):
    records = _records(5)
    path = _left(tmp_path / "log", records)

    assert segment_files.read(path) == Content(PROCESS, 1, tuple(records), 0)


@pytest.mark.parametrize("cut", range(1, 230, 7))
def test_a_torn_tail_is_recognised_wherever_it_is_cut(tmp_path, cut):
    records = _records(3)
    path = _left(tmp_path / "log", records)
    raw = bytearray(path.read_bytes())
    end = 36 + sum(8 + len(r) for r in records)
    raw[end - min(cut, len(records[-1]) + 7) :] = bytes(
        len(raw) - end + min(cut, len(records[-1]) + 7)
    )
    path.write_bytes(raw)

    assert segment_files.read(path).records == tuple(records[:2])


def test_bytes_of_another_file_are_no_records(tmp_path):
    other = _left(tmp_path / "a", _records(5, process=uuid4()), process=uuid4()).read_bytes()
    records = _records(2)
    path = _left(tmp_path / "log", records)
    raw = bytearray(path.read_bytes())
    end = 36 + sum(8 + len(r) for r in records)
    raw[end : end + 600] = other[36:636]
    path.write_bytes(raw)

    content = segment_files.read(path)

    assert content.records == tuple(records)
    assert content.torn > 0


@pytest.mark.parametrize("raw", [b"", bytes(10), bytes(1000), b"KVREADS1" + bytes(100)])
def test_a_file_without_its_header_holds_nothing(tmp_path, raw):
    path = tmp_path / "x.reads"
    path.write_bytes(raw)

    assert segment_files.read(path) is None


def test_a_file_given_up_ends_where_the_next_begins():
    first, records = segment_files.join(
        [Content(PROCESS, 1, (b"1", b"2", b"3", b"never answered"), 0),
         Content(PROCESS, 4, (b"4", b"5"), 0), Content(PROCESS, 6, (), 0)]
    )  # fmt: skip

    assert (first, records) == (1, [b"1", b"2", b"3", b"4", b"5"])


@pytest.mark.django_db(transaction=True)
def test_files_of_a_dead_process_are_shipped_in_order_and_removed(tmp_path):
    _left(tmp_path / "log", _records(5))
    _left(tmp_path / "log", _records(4, first=6), number=2, first=6)
    path = segment_files.path_of(tmp_path / "log", PROCESS, 3)
    SegmentFile.create(path, is_synced=False, capacity=4096).close()

    recovered(tmp_path / "log")

    assert list(ReadEvent.objects.order_by("seq").values_list("seq", flat=True)) == [*range(1, 10)]
    assert ReadSegment.objects.get().last == 9
    assert list((tmp_path / "log").iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_what_was_shipped_before_the_death_is_not_shipped_again(tmp_path):
    records = _records(9)
    with psycopg.connect(database_url(), autocommit=True) as link:
        run = shipping.Run(PROCESS, 1, records[:6], bytes(32))
        shipping.ship(link, run)
    _left(tmp_path / "log", records)

    recovered(tmp_path / "log")

    assert ReadEvent.objects.count() == 9
    assert [*ReadSegment.objects.order_by("first").values_list("first", "last")] == [(1, 6), (7, 9)]


@pytest.mark.django_db(transaction=True)
def test_a_file_whose_lock_is_missing_is_found_as_well(tmp_path):
    _left(tmp_path / "log", _records(3))
    (tmp_path / "log" / f"{PROCESS}.lock").unlink()
    (tmp_path / "log" / f"{uuid4()}.lock").touch(0o600)

    recovered(tmp_path / "log")

    assert ReadEvent.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_recover_at_once_ship_once(tmp_path):
    """Each round is a race of two real processes for the files of five dead ones."""
    for _ in range(3):
        for _ in range(5):
            process = uuid4()
            _left(tmp_path / "log", _records(200, process=process), process=process)
        program = (
            "import sys; from pathlib import Path; sys.stdin.read(1)\n"
            "from tests.keyvault.gateway import recovering\n"
            "recovering.once(Path(sys.argv[1]), sys.argv[2])"
        )
        argv = [sys.executable, "-c", program, str(tmp_path / "log"), database_url()]
        racers = [subprocess.Popen(argv, stdin=subprocess.PIPE) for _ in range(2)]
        for racer in racers:
            racer.stdin.write(b"x")
            racer.stdin.flush()
        for racer in racers:
            racer.stdin.close()
            assert racer.wait(30) == 0
        assert list((tmp_path / "log").iterdir()) == []

    assert ReadEvent.objects.count() == 3000
    assert ReadSegment.objects.count() == 15


@pytest.mark.django_db(transaction=True)
def test_a_record_that_came_twice_is_refused_by_the_database(tmp_path):
    """Even where two ran the same recovery at the same instant, the key admits a record once."""
    records, barrier, errors = _records(500), threading.Barrier(2), []

    def racer() -> None:
        with psycopg.connect(database_url(), autocommit=True) as link:
            barrier.wait()
            try:
                shipping.ship(link, shipping.Run(PROCESS, 1, records, bytes(32)))
            except psycopg.errors.UniqueViolation as error:
                errors.append(error)

    threads = [threading.Thread(target=racer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connections.close_all()

    assert len(errors) == 1
    assert ReadEvent.objects.count() == 500


@pytest.mark.django_db(transaction=True)
def test_what_the_dead_process_was_still_committing_is_no_fault(tmp_path):
    """The server goes on with a statement whose sender was killed."""
    records = _records(9)
    _left(tmp_path / "log", records)
    [lock] = segment_files.abandoned(tmp_path / "log", own=uuid4())
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(database_url(), autocommit=True) as link,
        psycopg.connect(database_url()) as dead,
    ):
        shipping.ship(dead, shipping.Run(PROCESS, 1, records[:6], bytes(32)))
        found = pool.submit(shipping.recover, link, lock)
        until(lambda: _is_waiting(dead, link.info.backend_pid))
        dead.commit()

        assert found.result(30) == 3

    assert [*ReadSegment.objects.order_by("first").values_list("first", "last")] == [(1, 6), (7, 9)]
    assert list((tmp_path / "log").iterdir()) == []


def _is_waiting(link, pid: int) -> bool:
    """Say whether a server process waits for a transaction of another."""
    asked = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)"
    return bool(link.execute(asked, [pid]).fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_the_files_of_a_living_process_are_left_alone(tmp_path):
    async def work() -> None:
        log = Segments.open(tmp_path / "log", Mode.DURABLE, "postgresql://nobody@/no?host=/no")
        await log.append((read("mine"),))
        other = Segments.open(tmp_path / "log", Mode.DURABLE, database_url())
        await other.append((read("other"),))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(other.close)
        assert len(list((tmp_path / "log").glob("*.lock"))) == 1
        await asyncio.to_thread(log.close)

    asyncio.run(work())
    assert [*ReadEvent.objects.values_list("request", flat=True)] == ["other"]
    recovered(tmp_path / "log")
    assert ReadEvent.objects.count() == 2
