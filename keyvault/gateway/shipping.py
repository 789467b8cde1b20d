"""Carry what is written down into PostgreSQL: each record once, each segment with its root.

A segment is a run of records of one process. Its rows and its row are one
statement, so that a record is in the database exactly when its segment is, and
`max(last)` says how far a process has come. That is asked anew after every
fault: a commit whose answer was lost is found and not repeated.

The records cross as they are, one a line, and the server takes them apart: the
gateway's own thread of execution, which serves reads, pays nothing for a row.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection

from keyvault.audit.merkle import Frontier, leaf_hash
from keyvault.gateway import refusals as refusal_counts
from keyvault.gateway import segment_files
from keyvault.gateway.files import Files
from keyvault.gateway.refusals import Refusals
from keyvault.gateway.segment_files import Lock

Link = Connection[tuple[Any, ...]]
log = logging.getLogger(__name__)

SEGMENT_S = 2.0
MOST_RECORDS = 50_000  # of one segment; more than two seconds of the fastest gateway
RECOVER_S = 5.0
_TICK_S, _RETRY_S, _CONNECT_S, _COMPLAIN_S = 0.05, 0.5, 3, 30.0
_MICROSECOND = "interval '1 microsecond'"

_SHIP = f"""
WITH lines AS MATERIALIZED (
    SELECT line, line::jsonb AS r FROM string_to_table(%(lines)s::text, E'\\n') AS line
), rows AS (
    INSERT INTO keyvault_readevent
        (process, seq, at, agent_id, token, key_id, key, number, door, source, request, record)
    SELECT (r->>1)::uuid, (r->>2)::bigint, 'epoch'::timestamptz + (r->>3)::bigint * {_MICROSECOND},
        (r->>4)::uuid, r->>5, (r->>6)::uuid, r->>7, (r->>8)::int, r->>9, r->>10, r->>11,
        convert_to(line, 'UTF8')
    FROM lines RETURNING at
)
INSERT INTO keyvault_readsegment (process, first, last, count, root, first_at, last_at)
SELECT %(process)s, %(first)s, %(last)s, count(*), %(root)s, min(at), max(at) FROM rows
"""  # noqa: S608 - constants of this file.
_SHIPPED = "SELECT coalesce(max(last), 0) FROM keyvault_readsegment WHERE process = %s"


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive records that become one segment."""

    process: UUID
    first: int
    records: Sequence[bytes]
    root: bytes

    @property
    def last(self) -> int:
        """Return the number of the last record."""
        return self.first + len(self.records) - 1


def ship(link: Link, run: Run) -> None:
    """Insert a run and its segment, both or neither. Raises psycopg.Error."""
    link.execute(
        _SHIP,
        {
            "lines": b"\n".join(run.records).decode(),
            "process": run.process,
            "first": run.first,
            "last": run.last,
            "root": run.root,
        },
    )


def shipped(link: Link, process: UUID) -> int:
    """Return the number of the last record of a process that is in the database."""
    row = link.execute(_SHIPPED, [process]).fetchone()
    return int(row[0]) if row else 0


def recover(link: Link, lock: Lock) -> int:
    """Ship what a dead process left and delete its files, then its lock; return how many records.

    Raises OSError, psycopg.Error: the files stay and the lock is free again.
    """
    try:
        count = _recover(link, lock)
    except BaseException:
        lock.release()
        raise
    lock.remove()
    return count


def _recover(link: Link, lock: Lock) -> int:
    paths = segment_files.of_process(lock.path.parent, lock.process)
    contents = [found for found in map(segment_files.read, paths) if found]
    for content in contents:
        if content.torn:
            log.warning("%s: the last write was cut short and not answered", lock.process)
    first, records = segment_files.join(contents)
    try:
        count = _ship_rest(link, lock.process, first, records)
    except psycopg.errors.UniqueViolation:
        # The server was still committing what the process had sent when it died.
        count = _ship_rest(link, lock.process, first, records)
    for path in paths:
        path.unlink(missing_ok=True)
    return count


def _ship_rest(link: Link, process: UUID, first: int, records: Sequence[bytes]) -> int:
    """Ship those records of a dead process that are not in the database; return how many."""
    start = max(shipped(link, process) + 1, first)
    left = records[start - first :]
    for offset in range(0, len(left), MOST_RECORDS):
        part = left[offset : offset + MOST_RECORDS]
        ship(link, Run(process, start + offset, part, _root(part)))
    return len(left)


def _root(records: Sequence[bytes]) -> bytes:
    tree = Frontier()
    for record in records:
        tree.append(leaf_hash(record))
    return tree.root()


class _Growing:
    """The segment that still grows. `since`: when its oldest record was written, monotonic."""

    def __init__(self, process: UUID, first: int) -> None:
        self.process, self.first, self.since = process, first, 0.0
        self.records: list[bytes] = []
        self._tree = Frontier()

    def add(self, records: Sequence[bytes], at: float) -> None:
        self.since = self.since or at
        self.records += records
        for record in records:
            self._tree.append(leaf_hash(record))

    def run(self) -> Run:
        return Run(self.process, self.first, self.records, self._tree.root())


class Shipper:
    """The thread that ships what the writer has written, and recovers dead processes.

    `oldest` is the monotonic time at which the oldest record that PostgreSQL
    does not have was written, 0 when it has all.
    """

    def __init__(self, database_url: str, *, files: Files, refusals: Refusals) -> None:
        self.oldest = 0.0
        self._database_url, self._files, self._refusals = database_url, files, refusals
        self._link: Link | None = None
        self._written: deque[tuple[list[bytes], float]] = deque()
        self._growing = _Growing(files.process, 1)
        self._closed: deque[tuple[Run, float]] = deque()
        self._shipped = 0
        self._recover_at = self._flush_at = self._connect_at = self._complain_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read shipper", daemon=True)

    def start(self) -> None:
        """Begin to ship."""
        self._thread.start()

    def add(self, records: list[bytes], at: float) -> None:
        """Take records that were written at `at` (monotonic seconds). Writer thread."""
        self._written.append((records, at))
        # After the append: `_note_oldest` looks again after it has said "none".
        self.oldest = self.oldest or at

    def stop(self, most_s: float) -> None:
        """Ship what is left, for at most `most_s` seconds."""
        self._stop.set()
        self._thread.join(most_s)

    def _run(self) -> None:
        while not self._stop.wait(_TICK_S):
            self._tick(time.monotonic())
        self._connect_at = 0.0
        self._tick(time.monotonic(), is_last=True)
        self._disconnect()
        self._files.leave(self._shipped)

    def _tick(self, now: float, *, is_last: bool = False) -> None:
        self._grow(now, is_last=is_last)
        if now < self._connect_at:
            return
        try:
            self._ship()
            if now >= self._recover_at and not is_last:
                self._recover_at = now + RECOVER_S
                self._recover()
            if now >= self._flush_at or is_last:
                self._flush_at = now + refusal_counts.FLUSH_S
                refusal_counts.flush(self._connected(), self._refusals)
        except Exception:
            self._disconnect()
            self._connect_at = now + _RETRY_S
            if now >= self._complain_at:
                self._complain_at = now + _COMPLAIN_S
                log.exception("reads cannot be shipped; tried again twice a second")

    def _grow(self, now: float, *, is_last: bool) -> None:
        """Hash what is new, a little at a time; close the segment when its time has come."""
        while self._written:
            self._growing.add(*self._written.popleft())
            if len(self._growing.records) >= MOST_RECORDS:
                self._close()
        if self._growing.records and (is_last or now - self._growing.since >= SEGMENT_S):
            self._close()

    def _close(self) -> None:
        run = self._growing.run()
        self._closed.append((run, self._growing.since))
        self._growing = _Growing(run.process, run.last + 1)

    def _ship(self) -> None:
        while self._closed:
            link, run = self._connected(), self._closed[0][0]
            if run.last > self._shipped:
                ship(link, run)
                self._shipped = run.last
            self._closed.popleft()
            self._note_oldest()
            self._files.drop_shipped(self._shipped)

    def _note_oldest(self) -> None:
        self.oldest = self._closed[0][1] if self._closed else self._growing.since
        if not self.oldest and self._written:
            self.oldest = self._written[0][1]

    def _recover(self) -> None:
        for lock in segment_files.abandoned(self._files.directory, own=self._files.process):
            count = recover(self._connected(), lock)
            log.info("%d reads of the dead process %s are shipped", count, lock.process)

    def _connected(self) -> Link:
        """Return the connection; a new one is first asked how far this process has come."""
        if self._link is None:
            self._link = psycopg.connect(
                self._database_url,
                autocommit=True,
                prepare_threshold=None,  # A pooler may give each statement another server.
                connect_timeout=_CONNECT_S,
                application_name="keyvault-gateway-reads",
            )
            self._shipped = max(self._shipped, shipped(self._link, self._files.process))
        return self._link

    def _disconnect(self) -> None:
        link, self._link = self._link, None
        if link:
            link.close()
