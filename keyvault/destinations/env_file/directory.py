"""One directory, reached without following any link, and changed so that no reader sees half.

Every name is looked up relative to an open directory, so that nobody can put
something else into the path between a look and an act.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from keyvault.destinations.base import (
    Ambiguous,
    Context,
    Denied,
    Misconfigured,
    ProviderError,
    Transient,
)

MAX_BYTES = 262_144
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LAST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a named pipe in the file's place would hold the reader for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_WRONG_PATH = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_LOCK_WAIT_S, _LOCK_LOOK_S = 2.0, 0.01


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it was at one moment. `content` is None for what is no small regular file."""

    content: bytes | None = field(repr=False)
    mode: int
    mark: str


@dataclass(frozen=True, slots=True)
class Directory:
    """An open directory. Names are single components and never followed as links."""

    fd: int

    def names(self) -> list[str]:
        """Return the names in it, sorted."""
        # Only the open directory itself may be listed; a path could lead elsewhere by now.
        return sorted(os.listdir(self.fd))  # noqa: PTH208

    def is_open_to_all(self) -> bool:
        """Say whether any user of the host may replace files in it."""
        return bool(os.fstat(self.fd).st_mode & stat.S_IWOTH)

    def is_writable(self) -> bool:
        """Say whether this process may make files in it."""
        return os.access(".", os.W_OK | os.X_OK, dir_fd=self.fd, effective_ids=True)

    def read(self, name: str) -> Found | None:
        """Return a file, or None where there is none. Raises OSError."""
        try:
            fd = os.open(name, _READ, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            # A link (ELOOP) or a socket (ENXIO) lies there: something, and not ours.
            if error.errno in {errno.ELOOP, errno.ENXIO}:
                return Found(None, 0, "")
            raise
        try:
            about = os.fstat(fd)
            mark = f"{about.st_ino}-{about.st_size}-{about.st_mtime_ns}"
            is_small = stat.S_ISREG(about.st_mode) and about.st_size <= MAX_BYTES
            content = _all_of(fd) if is_small else None
        finally:
            os.close(fd)
        return Found(content, stat.S_IMODE(about.st_mode), mark)

    def put(self, name: str, content: bytes, *, mode: int, draft: str) -> None:
        """Replace a file as a whole; `draft` is the name under which it is written first.

        Needs the lock. Raises Denied and Transient when the old content is still
        there, Ambiguous when either may be.
        """
        self.discard(draft)
        with _told("The file cannot be written"):
            fd = os.open(draft, _WRITE, 0o600, dir_fd=self.fd)
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, mode)
                file.write(content)
                file.flush()
                os.fsync(fd)
        with _told("The file may have been replaced", may_hold=True):
            os.rename(draft, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            os.fsync(self.fd)

    def discard(self, name: str) -> None:
        """Remove a file; an absent one counts as removed. Raises Denied, Ambiguous."""
        with _told("The file may have been removed", may_hold=True), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)
            os.fsync(self.fd)

    @contextmanager
    def locked(self, ctx: Context) -> Iterator[None]:
        """Keep every other process of keyvault from changing this directory. Raises Transient."""
        give_up_at = min(ctx.deadline_at, time.monotonic() + _LOCK_WAIT_S)
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up_at:
                    raise Transient("Another change of this directory takes too long.") from None
                time.sleep(_LOCK_LOOK_S)
        try:
            yield
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)


@contextmanager
def opened(path: str, roots: Collection[str]) -> Iterator[Directory]:
    """Open a directory at or below one of `roots`, for the length of the block.

    Raises Misconfigured for any other, for one that is reached over a link and for a
    missing one; Denied, Transient. An OSError of the block is told as Transient.
    """
    require_allowed(path, roots)
    with _told("The directory cannot be used"):
        fd = _walk(path)
        try:
            yield Directory(fd)
        finally:
            os.close(fd)


def require_allowed(path: str, roots: Collection[str]) -> None:
    """Raise Misconfigured unless `path` is at or below one of `roots`.

    Comparing names is enough, because no link is followed on the way.
    """
    if not is_plain(path):
        raise Misconfigured("Give the directory as an absolute path without . and .. in it.")
    if not any(path == root or path.startswith(f"{root}/") for root in roots if is_plain(root)):
        raise Misconfigured("KEYVAULT_ENV_FILE_ROOTS does not name this directory or one above.")


def is_plain(path: str) -> bool:
    """Say whether a path is absolute, has one spelling only, and is not the root itself."""
    # POSIX lets two leading slashes mean something else, and normpath leaves them.
    is_absolute = path.startswith("/") and not path.startswith("//")
    return is_absolute and path == os.path.normpath(path) and path != "/"


def _all_of(fd: int) -> bytes:
    """Return what a file holds, up to one byte more than is allowed."""
    with os.fdopen(fd, "rb", closefd=False) as file:
        return file.read(MAX_BYTES + 1)


def _walk(path: str) -> int:
    *way, last = path.strip("/").split("/")
    fd = os.open("/", _STEP)
    for part in (*way, last):
        try:
            following = os.open(part, _LAST if part is last else _STEP, dir_fd=fd)
        finally:
            os.close(fd)
        fd = following
    return fd


@contextmanager
def _told(what: str, *, may_hold: bool = False) -> Iterator[None]:
    """Tell an OSError by its code alone: its text may repeat what it was given."""
    try:
        yield
    except OSError as error:
        raise _failure(error, what, may_hold=may_hold) from None


def _failure(error: OSError, what: str, *, may_hold: bool) -> ProviderError:
    code = errno.errorcode.get(error.errno or 0, "an unknown error")
    if error.errno in _DENIED:
        return Denied(f"{what}: the system answers {code}. keyvault's worker lacks the right.")
    if error.errno in _WRONG_PATH:
        return Misconfigured(f"{what}: the system answers {code}. Links are not followed.")
    kind = Ambiguous if may_hold else Transient
    return kind(f"{what}: the system answers {code}.")
