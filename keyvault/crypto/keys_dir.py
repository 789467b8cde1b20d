"""The keys of one installation: made once, outside the data directory, never replaced."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from keyvault.crypto.keyring import new_kek
from keyvault.crypto.secret import Secret
from keyvault.crypto.signing import Ed25519Signer, new_key

KEK, RECEIPT, CHECKPOINT, ISSUER, INDEX = (
    "kek",
    "receipt.key",
    "checkpoint.key",
    "issuer.key",
    "index.key",
)
FILES = (KEK, RECEIPT, CHECKPOINT, ISSUER, INDEX)
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class NoKeysDir(Exception):
    """The directory is missing, incomplete or readable by others. The message says the mend."""


class AlreadyThere(Exception):
    """Keys exist at this place; they are never replaced."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What an installation signs and matches with. The KEK is read by the keyring alone."""

    path: Path
    receipt: Ed25519Signer
    checkpoint: Ed25519Signer
    issuer: Ed25519Signer
    index: Secret


def create(path: Path) -> None:
    """Make a complete directory (mode 0700, files 0400) or nothing at all.

    The files are written beside it and moved into place in one rename, so that
    a crash leaves no half of a set. Raises AlreadyThere when `path` holds
    anything.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and any(path.iterdir()):
        raise AlreadyThere(f"{path} holds keys already; they are never replaced.")
    making = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    making.mkdir(mode=0o700)
    try:
        _write(making)
        # rename(2) replaces an empty directory and refuses one that holds a file.
        making.rename(path)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        if path.exists() and any(path.iterdir()):
            raise AlreadyThere(f"{path} holds keys already; they are never replaced.") from None
        raise NoKeysDir(f"{path} cannot be made: {error.strerror}.") from None
    _sync(path.parent)


def load(path: Path) -> Keys:
    """Return the keys of an installation. Raises NoKeysDir, signing.BadKey."""
    missing = [name for name in FILES if not (path / name).is_file()]
    if missing:
        raise NoKeysDir(f"{path} lacks {', '.join(missing)}. Restore the directory from its copy.")
    for place in (path, *(path / name for name in FILES)):
        if place.stat().st_mode & _OTHERS:
            raise NoKeysDir(f"Others may read {place}. Run: chmod -R go= {path}")
    return Keys(
        path=path,
        receipt=Ed25519Signer(path / RECEIPT),
        checkpoint=Ed25519Signer(path / CHECKPOINT),
        issuer=Ed25519Signer(path / ISSUER),
        index=_index(path / INDEX),
    )


def _index(path: Path) -> Secret:
    try:
        return Secret(bytes.fromhex(path.read_text(encoding="ascii")))
    except (OSError, ValueError):
        raise NoKeysDir(f"{path} holds no index key.") from None


def _write(where: Path) -> None:
    contents = {
        KEK: new_kek() + "\n",
        RECEIPT: new_key(),
        CHECKPOINT: new_key(),
        ISSUER: new_key(),
        INDEX: secrets.token_hex(32),
    }
    for name, text in contents.items():
        handle = os.open(where / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    _sync(where)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
