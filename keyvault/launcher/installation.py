"""What one data directory holds: its passwords, its keys directory, its lock, its environment.

DIR/installation.json   0600  passwords and the place of the keys; made once
DIR/environment.json    0600  what the running processes were given
DIR/lock                      held by the running supervisor
DIR/postgres/ valkey/ log/ run/ static/ checkpoints/
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from keyvault.launcher.sentences import Stop

ROOT = Path(__file__).resolve().parent.parent.parent
_PRIVATE_DIR, _PRIVATE_FILE = 0o700, 0o600


def version() -> str:
    """Return which keyvault this is: its number where it was installed as a package."""
    from importlib.metadata import (  # noqa: PLC0415 - costs as much as the rest of a start
        PackageNotFoundError,
        version,
    )

    try:
        return version("keyvault")
    except PackageNotFoundError:
        return "from a source tree"


def default_dir(*, demo: bool) -> Path:
    """Return where an installation lives unless somebody names a place.

    Beside the code in a source tree, else in the user's own data directory.
    A demo never shares a directory with a real installation.
    """
    if (ROOT / "kv").exists():
        return ROOT / (".kv-demo" if demo else ".kv")
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    return home / ("keyvault-demo" if demo else "keyvault")


@dataclass(frozen=True, slots=True)
class Installation:
    """The facts of one installation that are decided once."""

    id: str
    demo: bool
    keys_dir: str
    superuser_password: str
    owner_password: str
    app_password: str
    queue_password: str
    secret_key: str
    target_password: str = ""
    target_queue_password: str = ""


def load(directory: Path) -> Installation | None:
    """Return the installation of a directory, or None. Raises Stop when its file is damaged."""
    path = directory / "installation.json"
    if not path.exists():
        return None
    try:
        return Installation(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise Stop(f"{path} is damaged. Restore it from a backup of {directory}.") from None


def make_keys(keys: Path, *, outside: Path) -> None:
    """Make the keys of an installation; complete ones that are there already are kept.

    Called before the installation is written down: from then on, none are ever
    made. Raises Stop.
    """
    from keyvault.crypto import keys_dir  # noqa: PLC0415 - heavy, and only a first start needs it

    if keys.absolute().is_relative_to(outside.absolute()):
        raise Stop(
            f"The keys ({keys}) must not lie inside the data ({outside}): a backup would hold "
            "both. Set KEYVAULT_KEYS_DIR to another place."
        )
    try:
        keys_dir.create(keys)
    except keys_dir.AlreadyThere:
        return
    except (keys_dir.NoKeysDir, OSError) as error:
        raise Stop(f"{error} Set KEYVAULT_KEYS_DIR to a place that you may write.") from None


def create(directory: Path, *, demo: bool) -> Installation:
    """Decide the passwords and make the keys, once. Raises Stop, OSError."""
    identity = secrets.token_hex(6)
    given = os.environ.get("KEYVAULT_KEYS_DIR")
    keys = Path(given) if given else Path.home() / ".config/keyvault" / identity
    make_keys(keys, outside=directory)
    made = Installation(
        id=identity,
        demo=demo,
        keys_dir=str(keys.absolute()),
        superuser_password=secrets.token_urlsafe(32),
        owner_password=secrets.token_urlsafe(32),
        app_password=secrets.token_urlsafe(32),
        queue_password=secrets.token_urlsafe(32),
        secret_key=secrets.token_urlsafe(64),
        target_password=secrets.token_urlsafe(24) if demo else "",
        target_queue_password=secrets.token_urlsafe(24) if demo else "",
    )
    write_private(directory / "installation.json", json.dumps(asdict(made), indent=1))
    return made


def obtain(directory: Path, *, demo: bool) -> Installation:
    """Return the installation of a directory, made if the directory is new.

    Raises Stop when a demo and a real installation would share a directory, or
    when a new installation would take over files that are not its own.
    """
    found = load(directory)
    if found is None:
        _require_empty(directory)
        return create(directory, demo=demo)
    if found.demo != demo:
        kind, other = ("a demo's", "without") if found.demo else ("a real one", "with")
        raise Stop(
            f"{directory} is {kind}; it cannot be started {other} --demo. "
            "Choose another place with --data."
        )
    return found


def _require_empty(directory: Path) -> None:
    strangers = [p.name for p in directory.iterdir() if p.name not in {"lock", "log", "run"}]
    if strangers:
        raise Stop(
            f"{directory} holds files that are not keyvault's ({strangers[0]}). "
            "Choose an empty place with --data."
        )


def make_private_dir(path: Path) -> Path:
    """Make a directory that only its owner enters. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True, mode=_PRIVATE_DIR)
    path.chmod(_PRIVATE_DIR)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all. Raises OSError."""
    making = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    making.replace(path)


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold the directory for one supervisor. Raises Stop when another one runs.

    The kernel drops the lock with the process, so it is never stale.
    """
    with (directory / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise Stop(
                f"keyvault already runs in {directory} ({holder}). "
                "Stop it there with Ctrl-C, or choose another place with --data."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}\n")
        file.flush()
        yield


def is_running(directory: Path) -> bool:
    """Say whether a supervisor holds the directory."""
    try:
        with (directory / "lock").open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def environment(directory: Path) -> dict[str, str]:
    """Return what the processes of an installation were given. Raises Stop when never started."""
    try:
        found: dict[str, str] = json.loads(
            (directory / "environment.json").read_text(encoding="utf-8")
        )
    except FileNotFoundError:
        raise Stop(f"Nothing has been started in {directory} yet. Start it: ./kv up") from None
    return found


def chosen_dir(given: str | None) -> Path:
    """Return the directory a command is about: the one named, else the one that runs.

    Where neither or both run, a real installation goes before the demo.
    """
    named = given or os.environ.get("KEYVAULT_DATA_DIR")
    if named:
        return Path(named).absolute()
    places = [default_dir(demo=False), default_dir(demo=True)]
    there = [p for p in places if (p / "environment.json").exists()]
    return next(filter(is_running, there), there[0] if there else places[0])
