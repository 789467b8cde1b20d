"""The directories of one data directory, and a socket directory that is short enough."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from keyvault.launcher.installation import make_private_dir
from keyvault.launcher.sentences import Stop

LEAST_FREE_MB = 300
# sockaddr_un holds 107 bytes; the longest name in the directory is PostgreSQL's lock file.
_SOCKET_DIR_MAX = 107 - len("/.s.PGSQL.65535.lock")


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of one data directory lies."""

    root: Path
    log: Path
    run: Path
    sockets: Path


def lay_out(root: Path) -> Places:
    """Make the directories. Raises Stop when the disk is nearly full, OSError."""
    make_private_dir(root)
    free_mb = shutil.disk_usage(root).free // 1_000_000
    if free_mb < LEAST_FREE_MB:
        raise Stop(
            f"Only {free_mb} MB are free where {root} lies; keyvault needs {LEAST_FREE_MB} MB. "
            "Free some space, or choose another place with --data."
        )
    return Places(
        root=root,
        log=make_private_dir(root / "log"),
        run=make_private_dir(root / "run"),
        sockets=_sockets(root / "run"),
    )


def _sockets(preferred: Path) -> Path:
    """Return a private directory whose sockets fit into an address.

    Raises Stop when somebody else holds the stand-in of a path that is too long.
    """
    if len(os.fsencode(preferred)) <= _SOCKET_DIR_MAX:
        return preferred
    name = "kv-" + hashlib.sha256(os.fsencode(preferred)).hexdigest()[:16]
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")  # noqa: S108 - 0700 and checked below
    path = base / f"{name}-{os.geteuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    is_ours = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
    if not stat.S_ISDIR(found.st_mode) or not is_ours:
        raise Stop(f"{path} belongs to somebody else. Remove it, or choose a shorter --data path.")
    return path
