"""The log of reads: nothing is answered that is not written, and what hinders it passes by itself."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
from django.db import connection

from keyvault.audit.reads.models import ReadEvent, ReadSegment
from keyvault.gateway import segment_files, segments, shipping
from keyvault.gateway.files import Files
from keyvault.gateway.records import LogUnavailable, Mode
from keyvault.gateway.segments import Segments
from tests.keyvault.gateway.reading import database_url, recovered, written
from tests.keyvault.gateway.sample import read

pytestmark = pytest.mark.django_db(transaction=True)

NOWHERE = "postgresql://nobody@/none?host=/nowhere"


@asynccontextmanager
async def opened(directory, mode=Mode.DURABLE, url=None):
    log = Segments.open(directory, mode, url or database_url())
    try:
        yield log
    finally:
        await asyncio.to_thread(log.close)


async def _refused(log) -> float:
    """Append one read that must be refused; return after how many seconds it was."""
    began = time.monotonic()
    with pytest.raises(LogUnavailable):
        await log.append((read("refused"),))
    return time.monotonic() - began


async def _is_accepted(log, request: str, *, times: int = 20) -> bool:
    """Append a read some times at once; say whether they were written down, all or none."""
    try:
        await log.append((read(request),) * times)
    except LogUnavailable:
        return False
    return True


async def _until_accepted(log, request: str, most_s: float = 5) -> None:
    until = time.monotonic() + most_s
    while True:
        try:
            await log.append((read(request),))
        except LogUnavailable:
            assert time.monotonic() < until, "the log did not recover by itself"
            await asyncio.sleep(0.05)
        else:
            return


def _stored() -> list[str]:
    return sorted(ReadEvent.objects.values_list("request", flat=True))


@pytest.mark.parametrize("mode", Mode)
def test_reads_reach_the_database_once_and_leave_no_file(tmp_path, mode):
    written(tmp_path / "log", 1000, mode=mode)

    rows = list(ReadEvent.objects.order_by("seq").values_list("seq", flat=True))
    assert rows == list(range(1, 1001))
    assert sum(ReadSegment.objects.values_list("count", flat=True)) == 1000
    assert list((tmp_path / "log").iterdir()) == []


def test_a_read_is_on_the_disk_before_append_returns(tmp_path):
    async def work() -> None:
        async with opened(tmp_path / "log", url=NOWHERE) as log:
            for number in range(3):
                await log.append((read(f"r{number}"), read(f"s{number}")))
                (path,) = (tmp_path / "log").glob("*-00000001.reads")
                content = segment_files.read(path)
                assert len(content.records) == 2 * (number + 1)
                assert f'"s{number}"]'.encode() in content.records[-1]

    asyncio.run(work())


def test_the_directory_and_its_files_are_for_this_user_alone(tmp_path):
    async def work() -> None:
        async with opened(tmp_path / "log", url=NOWHERE) as log:
            await log.append((read(),))
            assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700
            assert {p.stat().st_mode & 0o777 for p in (tmp_path / "log").iterdir()} == {0o600}

    asyncio.run(work())


def test_a_directory_that_others_may_enter_is_refused(tmp_path):
    (tmp_path / "log").mkdir(mode=0o755)

    async def work() -> None:
        async with opened(tmp_path / "log") as log:
            assert await _refused(log) < 15
            (tmp_path / "log").chmod(0o700)
            await _until_accepted(log, "mended")

    asyncio.run(work())
    assert _stored() == ["mended"]


@contextmanager
def small_disk(place, size: str):
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", place],
        check=False,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("mode", Mode)
def test_a_full_disk_refuses_within_two_seconds_and_mends_itself(tmp_path, mode):
    async def work() -> None:
        async with opened(place / "log", mode, NOWHERE) as log:
            while await _is_accepted(log, f"{len(kept):06}"):
                kept.append(len(kept))
            assert len(kept) > 1000
            assert max([await _refused(log) for _ in range(20)]) < 15
            (place / "filler").unlink()
            await _until_accepted(log, "mended")

    place, kept = tmp_path / "disk", []
    with small_disk(place, "60m"):
        (place / "filler").write_bytes(bytes(40 << 20))
        asyncio.run(work())
        recovered(place / "log")

    requests = set(_stored())
    assert requests - {"mended"} == {f"{number:06}" for number in kept}
    assert ReadEvent.objects.count() == 20 * len(kept) + 1


def test_a_directory_that_disappears_is_made_again(tmp_path):
    async def work() -> None:
        async with opened(tmp_path / "log") as log:
            await log.append((read("before"),))
            shutil.rmtree(tmp_path / "log")
            await asyncio.sleep(1.1)  # The log looks once a second.
            await _until_accepted(log, "after")
            assert len(list((tmp_path / "log").glob("*.lock"))) == 1

    asyncio.run(work())
    assert _stored() == ["after", "before"]


def test_a_disk_that_hangs_refuses_within_two_seconds(tmp_path, monkeypatch):
    put = segment_files.SegmentFile.put
    answers = threading.Event()
    answers.set()

    def slowly(self, frames, last) -> None:
        answers.wait(60)
        put(self, frames, last)

    monkeypatch.setattr(segment_files.SegmentFile, "put", slowly)

    async def work() -> None:
        async with opened(tmp_path / "log") as log:
            await log.append((read("before"),))
            answers.clear()
            waits = await asyncio.gather(*(_refused(log) for _ in range(5)))
            assert max(waits) < 15
            assert await _refused(log) < segments.HANG_S
            answers.set()
            await _until_accepted(log, "after")

    asyncio.run(work())
    # A read that was refused may have been written down; one that was answered must be.
    assert {"before", "after"} <= set(_stored())


def test_postgresql_away_refuses_after_the_bound_and_mends_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "UNSHIPPED_MOST_S", 3.0)
    door = tmp_path / "door"
    door.symlink_to(connection.settings_dict["HOST"])
    url = database_url().replace(
        quote(connection.settings_dict["HOST"], safe=""), quote(str(door), safe="")
    )

    async def work() -> None:
        async with opened(tmp_path / "log", url=url) as log:
            await log.append((read("before"),))
            await asyncio.sleep(2.5)
            door.unlink()
            _end_connections()
            began = time.monotonic()
            while await _is_accepted(log, f"away{len(kept):04}", times=1):
                kept.append(len(kept))
                await asyncio.sleep(0.05)
            assert 2.5 < time.monotonic() - began < 25
            door.symlink_to(connection.settings_dict["HOST"])
            await _until_accepted(log, "back")

    kept: list[int] = []
    asyncio.run(work())
    assert _stored() == sorted(["before", "back", *(f"away{n:04}" for n in kept)])


def _end_connections() -> None:
    with psycopg.connect(database_url()) as link:
        link.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'keyvault-gateway-reads'"
        )


def test_a_commit_whose_answer_was_lost_is_not_repeated(tmp_path, monkeypatch):
    ship, lost = shipping.ship, []

    def lossy(link, run) -> None:
        ship(link, run)
        if not lost:
            lost.append(run)
            link.close()
            raise psycopg.OperationalError("the server closed the connection")

    monkeypatch.setattr(shipping, "ship", lossy)
    written(tmp_path / "log", 50)
    recovered(tmp_path / "log")

    assert lost
    assert ReadEvent.objects.count() == 50


def test_files_turn_when_they_are_full_and_go_when_they_are_shipped(tmp_path):
    files = Files(tmp_path / "log", uuid4(), Mode.DURABLE, capacity=4096)
    for number in range(1, 30):
        file = files.with_room(1000, first=number)
        file.put(b"x" * 1000, number)
    assert len(list((tmp_path / "log").glob("*.reads"))) >= 8

    files.drop_shipped(20)
    left = len(list((tmp_path / "log").glob("*.reads")))
    files.leave(29)

    assert left <= 5
    assert list((tmp_path / "log").iterdir()) == []


def test_a_closed_log_refuses(tmp_path):
    async def work() -> None:
        async with opened(tmp_path / "log") as log:
            await log.append((read(),))
        assert await _refused(log) < segments.HANG_S

    asyncio.run(work())


def test_a_read_that_cannot_be_encoded_hinders_no_other(tmp_path):
    async def work() -> None:
        async with opened(tmp_path / "log") as log:
            with pytest.raises(LogUnavailable):
                await log.append((read("bad", at=float("nan")),))
            await log.append((read("good"),))

    asyncio.run(work())
    assert _stored() == ["good"]
    assert list((tmp_path / "log").iterdir()) == []
