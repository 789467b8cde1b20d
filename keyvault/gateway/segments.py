"""The log of reads: durable before the answer, by group commit into segment files.

    log = Segments.open(directory, mode, database_url)
    await log.append((read,))      # on the event loop; raises LogUnavailable
    log.deny(source, agent_id, "not granted")
    await asyncio.to_thread(log.close)

One writer thread takes whatever waits, writes it at once and then lets all of
its readers go: in mode `durable` the file is opened O_DSYNC, in mode `process`
the kernel has the bytes. A second thread ships what is written to PostgreSQL
(keyvault.gateway.shipping). `append` raises LogUnavailable within two seconds
while the disk is full, fails or hangs, and while the oldest read that
PostgreSQL does not have is older than ten seconds; both pass by themselves.
One object serves one process and one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from asyncio import AbstractEventLoop, Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Self
from uuid import uuid4

from keyvault.audit.reads.records import (
    KEY_MAX,
    REQUEST_MAX,
    SOURCE_MAX,
    TOKEN_MAX,
    VERSION,
    Record,
    encode,
    plain,
)
from keyvault.gateway.files import Files
from keyvault.gateway.records import LogUnavailable, Mode, Read
from keyvault.gateway.refusals import Refusals
from keyvault.gateway.segment_files import checksum, pack_frame
from keyvault.gateway.shipping import Shipper

log = logging.getLogger(__name__)

HANG_S = 1.0  # A write that lasts longer has hung; with the watch below: said within 1.5 s.
UNSHIPPED_MOST_S = 10.0
_WATCH_S = 0.4
_GROUP = 512  # reads in one write, at most, unless one call brings more
_CLOSE_S = 10.0


@dataclass(slots=True)
class _Waiting:
    """One call of `append` and the future that it waits for."""

    reads: tuple[Read, ...]
    done: Future[None]


class Segments:
    """The `ReadLog` of one gateway process."""

    def __init__(self, files: Files, shipper: Shipper, refusals: Refusals) -> None:
        self._files, self._shipper, self._refusals = files, shipper, refusals
        self._process = files.process
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._loop: AbstractEventLoop | None = None
        self._in_hand: list[_Waiting] = []
        self._writing_since = 0.0
        self._written = 0
        self._is_closed = False
        self._writer = threading.Thread(target=self._write_on, name="read log", daemon=True)

    @classmethod
    def open(cls, directory: Path, mode: Mode, database_url: str) -> Self:
        """Start the log of a new process. `directory` is made, for this user alone.

        Neither disk nor database need be there yet: until they are, `append`
        refuses. What dead processes left in the directory is shipped first.
        """
        files = Files(directory, uuid4(), mode)
        refusals = Refusals()
        opened = cls(files, Shipper(database_url, files=files, refusals=refusals), refusals)
        files.try_to_begin()
        opened._shipper.start()
        opened._writer.start()
        return opened

    async def append(self, reads: tuple[Read, ...]) -> None:
        """Return once all of them are as safe as the mode says. Raises LogUnavailable."""
        loop = self._loop or self._bind()
        self._refuse_when_stuck()
        done = loop.create_future()
        self._queue.put(_Waiting(reads, done))
        await done

    def deny(self, source: str, principal: str, reason: str) -> None:
        """Count one refusal; the counts reach the ledger within two minutes."""
        self._refusals.count(source, principal, reason)

    def close(self) -> None:
        """Write and ship what is left, for at most some seconds, and end both threads.

        What could not be shipped stays in its files for the next process.
        """
        self._is_closed = True
        self._queue.put(None)
        self._writer.join(_CLOSE_S)
        self._shipper.stop(_CLOSE_S)

    def _bind(self) -> AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(_WATCH_S, self._watch)
        return self._loop

    def _refuse_when_stuck(self) -> None:
        if self._is_closed:
            raise LogUnavailable("the log of reads is closed")
        now = time.monotonic()
        if self._writing_since and now - self._writing_since > HANG_S:
            raise LogUnavailable("the disk does not answer")
        oldest = self._shipper.oldest
        if oldest and now - oldest > UNSHIPPED_MOST_S:
            raise LogUnavailable("reads have not reached the database for ten seconds")

    def _watch(self) -> None:
        """On the event loop: let those go who wait for a disk that hangs."""
        since = self._writing_since
        if since and time.monotonic() - since > HANG_S:
            waiting = [*self._in_hand, *self._drain()]
            self._settle(waiting, LogUnavailable("the disk does not answer"))
        if self._loop and not self._is_closed:
            self._loop.call_later(_WATCH_S, self._watch)

    def _drain(self) -> list[_Waiting]:
        found = []
        with contextlib.suppress(Empty):
            while True:
                waiting = self._queue.get_nowait()
                if waiting is not None:
                    found.append(waiting)
        return found

    def _write_on(self) -> None:
        """Be the writer thread."""
        is_open = True
        while is_open:
            group, is_open = self._take()
            if not group:
                continue
            self._in_hand, self._writing_since = group, time.monotonic()
            error: LogUnavailable | None = None
            try:
                self._write([read for waiting in group for read in waiting.reads])
            except OSError as failure:
                self._files.give_up(failure)
                error = LogUnavailable(f"the read cannot be written down: {failure}")
            except Exception as failure:
                # Nothing was written; whoever waits must be told, and the thread must live on.
                log.exception("reads could not be encoded")
                error = LogUnavailable(f"the read cannot be written down: {failure!r}")
            self._in_hand, self._writing_since = [], 0.0
            self._tell(group, error)

    def _take(self) -> tuple[list[_Waiting], bool]:
        """Wait for one, then take those that are there as well; False once the log is closed."""
        group, count = list[_Waiting](), 0
        waiting = self._queue.get()
        while waiting is not None:
            group.append(waiting)
            count += len(waiting.reads)
            if count >= _GROUP:
                return group, True
            try:
                waiting = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _write(self, reads: list[Read]) -> None:
        began = time.monotonic()
        first = self._written + 1
        records = [self._record(read, seq) for seq, read in enumerate(reads, first)]
        last = self._written + len(records)
        room = sum(map(len, records)) + len(records) * len(pack_frame(0, 0))
        file = self._files.with_room(room, first=first)
        parts = list[bytes]()
        for record in records:
            parts += (pack_frame(len(record), checksum(record, file.seed)), record)
        file.put(b"".join(parts), last)
        self._written = last
        self._shipper.add(records, began)

    def _record(self, read: Read, seq: int) -> bytes:
        return encode(
            Record(
                VERSION,
                self._process,
                seq,
                round(read.at * 1_000_000),
                read.agent_id,
                plain(read.token, TOKEN_MAX),
                read.key_id,
                plain(read.key, KEY_MAX),
                read.number,
                read.door.value,
                plain(read.source, SOURCE_MAX),
                plain(read.request, REQUEST_MAX),
            )
        )

    def _tell(self, group: list[_Waiting], error: LogUnavailable | None) -> None:
        if self._loop is None:
            return
        with contextlib.suppress(RuntimeError):
            # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(self._settle, group, error)

    @staticmethod
    def _settle(group: list[_Waiting], error: LogUnavailable | None) -> None:
        """On the event loop: wake all who waited for one write."""
        for waiting in group:
            if waiting.done.done():
                continue
            if error is None:
                waiting.done.set_result(None)
            else:
                waiting.done.set_exception(error)
