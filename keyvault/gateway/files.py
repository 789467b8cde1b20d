"""The segment files of this process: which one is written, which is next, which are done with."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path
from uuid import UUID

from keyvault.gateway import segment_files
from keyvault.gateway.records import Mode
from keyvault.gateway.segment_files import CAPACITY, Lock, SegmentFile

log = logging.getLogger(__name__)

_RETRY_S, _LOOK_S = 0.5, 1.0


class NoFile(OSError):
    """No segment file can be had now; tried again twice a second."""


class Files:
    """Called by the writer thread, except `drop_shipped`, `leave` and what says so."""

    def __init__(
        self, directory: Path, process: UUID, mode: Mode, *, capacity: int = CAPACITY
    ) -> None:
        self.directory, self.process = directory, process
        self._is_synced, self._capacity = mode is Mode.DURABLE, capacity
        self._lock: Lock | None = None
        self._current: SegmentFile | None = None
        self._next: SegmentFile | None = None
        self._preparing: threading.Thread | None = None
        self._filled: list[SegmentFile] = []
        self._number = 0
        self._retry_at = self._look_at = 0.0
        self._complaint = ""

    def try_to_begin(self) -> None:
        """Open the first file ahead of the first read; a failure is logged and tried again."""
        try:
            self.with_room(0, first=1)
        except OSError as error:
            self.give_up(error)

    def with_room(self, size: int, *, first: int) -> SegmentFile:
        """Return a file in which `size` bytes fit. `first` numbers the next record.

        Raises NoFile, OSError.
        """
        now = time.monotonic()
        if self._current and now >= self._look_at:
            self._look_at = now + _LOOK_S
            if not self._current.is_in_place():
                self.give_up(FileNotFoundError(f"{self._current.path} is gone"))
        if self._current is None or not self._current.has_room(size):
            self._current = self._turn(size, first, now)
        if self._current.is_half_full and self._next is None and self._preparing is None:
            self._preparing = threading.Thread(target=self._prepare, name="segment", daemon=True)
            self._preparing.start()
        return self._current

    def give_up(self, error: Exception) -> None:
        """Write no more into the current file: what it took before the error still counts."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.error("reads cannot be written down: %s", error)
        if self._current:
            self._filled.append(self._current)
            self._current = None

    def drop_shipped(self, shipped: int) -> None:
        """Delete files whose records PostgreSQL has, up to number `shipped`. Shipper thread."""
        for file in [file for file in self._filled if file.last <= shipped]:
            self._filled.remove(file)
            file.close()
            file.path.unlink(missing_ok=True)

    def leave(self, shipped: int) -> None:
        """At the end: delete what is shipped, and the lock when nothing is left. Shipper thread."""
        self._filled += [file for file in (self._current, self._next) if file]
        self._current = self._next = None
        self.drop_shipped(shipped)
        if self._lock is None:
            return
        if self._filled:
            self._lock.release()
        else:
            self._lock.remove()
        self._lock = None

    def _turn(self, size: int, first: int, now: float) -> SegmentFile:
        """Take the prepared file, or make one. At most two tries a second, so that a full disk costs little."""
        if now < self._retry_at:
            raise NoFile(self._complaint or "no segment file can be made")
        self._retry_at = now + _RETRY_S
        try:
            file = self._take_next() or self._make(max(self._capacity, 2 * size))
            if not file.has_room(size):
                self._filled.append(file)
                file = self._make(2 * size)
            file.begin(self.process, first)
        except OSError as error:
            raise NoFile(f"no segment file can be made: {error}") from error
        if self._current:
            self._filled.append(self._current)
        if self._complaint:
            log.info("reads can be written down again")
        self._complaint, self._retry_at = "", 0.0
        return file

    def _take_next(self) -> SegmentFile | None:
        if self._preparing:
            self._preparing.join()
            self._preparing = None
        found, self._next = self._next, None
        if found and not found.is_in_place():
            found.close()
            return None
        return found

    def _prepare(self) -> None:
        """Make the next file while the current one is filled; a failure is met again at the turn."""
        with contextlib.suppress(OSError):
            self._next = self._make(self._capacity)

    def _make(self, capacity: int) -> SegmentFile:
        if self._lock is None or not self._lock.is_in_place():
            if self._lock:
                self._lock.release()
            self._lock = None
            self._lock = segment_files.enter(self.directory, self.process)
        self._number += 1
        path = segment_files.path_of(self.directory, self.process, self._number)
        return SegmentFile.create(path, is_synced=self._is_synced, capacity=capacity)
