"""What `keyvault login` leaves behind: one token of a person, in a file of theirs alone."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path

from keyvault.cli.codes import Exit
from keyvault.launcher.sentences import Stop

_DIRECTORY, _FILE = 0o700, 0o600


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who is signed in where. expires_at: seconds since 1970."""

    url: str
    person: str
    expires_at: float
    token: str = field(repr=False)


def path() -> Path:
    """Return where the token is kept (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "keyvault" / "token"


def load() -> SignedIn | None:
    """Return who is signed in, or None. Raises Stop when others could read or change the file."""
    where = path()
    try:
        facts = where.stat()
        content = where.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        raise Stop(
            f"Others may read {where}. Sign in again: keyvault logout; keyvault login",
            code=Exit.NOT_SIGNED_IN,
        )
    try:
        return SignedIn(**json.loads(content))
    except (ValueError, TypeError):
        message = f"{where} is damaged. Sign in again: keyvault login"
        raise Stop(message, code=Exit.NOT_SIGNED_IN) from None


def save(who: SignedIn) -> Path:
    """Keep a token in place of the last one, and return where."""
    where = path()
    where.parent.mkdir(parents=True, exist_ok=True)
    where.parent.chmod(_DIRECTORY)
    write(where, json.dumps(asdict(who)).encode())
    return where


def forget() -> SignedIn | None:
    """Remove the token and return whose it was."""
    try:
        who = load()
    except Stop:
        who = None
    path().unlink(missing_ok=True)
    return who


def write(where: Path, content: bytes) -> None:
    """Put a file of mode 0600 in place at once: a reader sees the old one or the new one, whole."""
    # Only who writes pays for it: it brings along every kind of archive.
    import tempfile  # noqa: PLC0415

    handle, temporary = tempfile.mkstemp(prefix=f".{where.name}.", dir=where.parent)
    try:
        # mkstemp makes it 0600, before a byte is in it.
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(where)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
