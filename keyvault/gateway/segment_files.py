"""Segment files: preallocated, appended to at known offsets, read back after a crash.

A file begins with its process, the number of its first record and a checksum.
Then come frames: length, checksum, record. The checksum starts from the
header's, so that no frame of another file is ever taken for one of this file.
Every write ends with a frame of length zero, which the next write replaces:
what an older, failed write left behind is never reached.

One process holds the lock `PROCESS.lock` while it lives; whoever can take the
lock of another process knows it dead and may ship what it left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import UUID

CAPACITY = 16 * 1024 * 1024
_MAGIC = b"KVREADS1"
_HEADER = struct.Struct("<8s16sQ")
_CHECKSUM = struct.Struct("<I")
_START = _HEADER.size + _CHECKSUM.size
_FRAME = struct.Struct("<II")
_END = bytes(_FRAME.size)
_ZEROS = bytes(1 << 20)
_SUFFIX, _LOCK = ".reads", ".lock"
_TRIES = 10
_NAME = 36  # characters of a UUID, which names a process

pack_frame = _FRAME.pack
checksum = zlib.crc32


class SegmentFile:
    """One file that this process appends to. `seed` is where the checksums of its frames start."""

    def __init__(self, path: Path, fd: int, capacity: int) -> None:
        self.path, self._fd, self._capacity = path, fd, capacity
        self._end = _START
        self.seed = 0
        self.last = 0

    @classmethod
    def create(cls, path: Path, *, is_synced: bool, capacity: int = CAPACITY) -> Self:
        """Make a file of zeros, all of it on the disk before a record comes. Raises OSError.

        Written zeros and not only allocated space: an overwrite changes no
        metadata, which is what makes the wait for the disk short.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            os.posix_fallocate(fd, 0, capacity)
            for offset in range(0, capacity, len(_ZEROS)):
                _write_whole(fd, _ZEROS[: capacity - offset], offset)
            os.fsync(fd)
            _sync_directory(path.parent)
            if is_synced:
                # O_DSYNC cannot be switched on by fcntl, so the file is opened anew.
                synced = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_DSYNC)
                os.close(fd)
                fd = synced
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return cls(path, fd, capacity)

    def begin(self, process: UUID, first: int) -> None:
        """Write the header: from now on the file counts. Raises OSError."""
        head = _HEADER.pack(_MAGIC, process.bytes, first)
        self.seed = zlib.crc32(head)
        _write_whole(self._fd, head + _CHECKSUM.pack(self.seed), 0)

    def has_room(self, size: int) -> bool:
        """Say whether frames of `size` bytes and the end mark still fit."""
        return self._end + size + len(_END) <= self._capacity

    @property
    def is_half_full(self) -> bool:
        """Say whether it is time to prepare the next file."""
        return self._end > self._capacity // 2

    def put(self, frames: bytes, last: int) -> None:
        """Append frames; `last` is the number of the last record. Raises OSError: nothing counts."""
        _write_whole(self._fd, frames + _END, self._end)
        self._end += len(frames)
        self.last = last

    def is_in_place(self) -> bool:
        """Say whether the path still leads to this file, so that a successor would find it."""
        try:
            there, here = self.path.stat(), os.fstat(self._fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def close(self) -> None:
        """Close it; what it holds stays."""
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds. `torn` counts the bytes after the last whole record that are no end mark."""

    process: UUID
    first: int
    records: tuple[bytes, ...]
    torn: int


def read(path: Path) -> Content | None:
    """Return what a file holds up to its first frame that is not whole; None before its header.

    Raises OSError.
    """
    raw = path.read_bytes()
    if len(raw) < _START:
        return None
    magic, process, first = _HEADER.unpack_from(raw)
    seed = zlib.crc32(raw[: _HEADER.size])
    if magic != _MAGIC or _CHECKSUM.unpack_from(raw, _HEADER.size) != (seed,):
        return None
    records, end = _frames(raw, seed)
    torn = len(raw[end:].rstrip(b"\0"))
    return Content(UUID(bytes=process), first, records, torn)


def _frames(raw: bytes, seed: int) -> tuple[tuple[bytes, ...], int]:
    found, at = [], _START
    while at + _FRAME.size <= len(raw):
        length, crc = _FRAME.unpack_from(raw, at)
        record = raw[at + _FRAME.size : at + _FRAME.size + length]
        if not length or len(record) != length or zlib.crc32(record, seed) != crc:
            break
        found.append(record)
        at += _FRAME.size + length
    return tuple(found), at


def path_of(directory: Path, process: UUID, number: int) -> Path:
    """Return where the file `number` of a process lies; names sort in the order of records."""
    return directory / f"{process}-{number:08d}{_SUFFIX}"


def of_process(directory: Path, process: UUID) -> list[Path]:
    """Return the files of a process, oldest first. Raises OSError."""
    return sorted(directory.glob(f"{process}-*{_SUFFIX}"))


def join(contents: Sequence[Content]) -> tuple[int, list[bytes]]:
    """Return the first number and all records of consecutive files of one process.

    A file that was given up after a failed write may hold records of that
    write; the next file's first number says where it really ended.
    """
    if not contents:
        return 1, []
    first, records = contents[0].first, list[bytes]()
    for content in contents:
        del records[content.first - first :]
        records += content.records
    return first, records


class Lock:
    """The sign that a process lives: an flock that the kernel drops when it dies."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self._fd = path, fd

    @property
    def process(self) -> UUID:
        """Return whose lock this is."""
        return UUID(self.path.stem)

    @classmethod
    def take(cls, path: Path) -> Lock | None:
        """Take a lock, or return None when a living process holds it. Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, 0o600)
        lock = cls(path, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.release()
            return None
        if not lock.is_in_place():
            # Another one was faster, shipped everything and removed the file.
            lock.release()
            return None
        return lock

    def is_in_place(self) -> bool:
        """Say whether the path still leads to the locked file."""
        try:
            return self.path.stat().st_ino == os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go."""
        os.close(self._fd)

    def remove(self) -> None:
        """Delete the file while the lock is held, then let go: its process has left nothing."""
        self.path.unlink(missing_ok=True)
        self.release()


def enter(directory: Path, process: UUID) -> Lock:
    """Make the directory (0700) where it is missing and take the lock of a new process.

    Raises OSError, PermissionError when others may enter the directory.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_mode & 0o077:
        raise PermissionError(f"{directory} is open to others; run: chmod 700 {directory}")
    for _ in range(_TRIES):
        # Between making and locking it, another process may take the file for a dead one's.
        lock = Lock.take(directory / f"{process}{_LOCK}")
        if lock is not None:
            return lock
    raise BlockingIOError(f"the lock of {process} in {directory} cannot be taken")


def abandoned(directory: Path, *, own: UUID) -> Iterator[Lock]:
    """Yield the lock of each dead process; the caller removes or releases it. Raises OSError.

    Files whose lock is missing count as well.
    """
    names = {path.stem for path in directory.glob(f"*{_LOCK}")}
    names |= {path.name[:_NAME] for path in directory.glob(f"*{_SUFFIX}")}
    for name in sorted(names - {str(own)}):
        lock = Lock.take(directory / f"{name}{_LOCK}")
        if lock is not None:
            yield lock


def _write_whole(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
