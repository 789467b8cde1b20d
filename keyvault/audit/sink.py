"""The place outside the database where checkpoints lie: a directory of signed notes.

`latest.note` is the newest one, `<day>/<number>.note` are all of them, and
`ledger.vkey` is the public key that an auditor takes along. Each file is
replaced in one rename, so a reader never sees half of one.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from keyvault.audit.note import BadNote, Head, Verifier, read

LATEST, VKEY = "latest.note", "ledger.vkey"


class SinkUnavailable(Exception):
    """Checkpoints cannot be written or read outside the database. The message says why."""


class Directory:
    """One directory of checkpoints, and the key that must have signed them."""

    def __init__(self, path: Path, verifier: Verifier) -> None:
        """Use `path`, which need not exist yet."""
        self.path, self.verifier = path, verifier

    def latest(self) -> Head | None:
        """Return the newest exported checkpoint. Raises SinkUnavailable, BadNote."""
        try:
            found = (self.path / LATEST).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise SinkUnavailable(f"{self.path / LATEST} cannot be read: {error}.") from error
        return Head.parse(read(found, self.verifier))

    def put(self, head: Head, note: str) -> None:
        """Write one checkpoint and make it the latest. Raises SinkUnavailable."""
        try:
            self._replace(self.place(head), note)
            self._replace(self.path / VKEY, f"{self.verifier}\n")
            self._replace(self.path / LATEST, note)
        except OSError as error:
            raise SinkUnavailable(f"{self.path} cannot be written: {error.strerror}.") from error

    def place(self, head: Head) -> Path:
        """Return where a checkpoint lies: a directory for each day, so that none grows large."""
        return self.path / head.at.date().isoformat() / f"{head.number:010d}.note"

    def notes(self) -> Iterator[tuple[Path, str]]:
        """Yield every exported note in the order of its number. Raises SinkUnavailable."""
        try:
            for place in sorted(self.path.glob("*/*.note"), key=lambda found: found.name):
                yield place, place.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise SinkUnavailable(f"{self.path} cannot be read: {error.strerror}.") from error

    def _replace(self, target: Path, text: str) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        making = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        with making.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        making.replace(target)
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


__all__ = ["BadNote", "Directory", "SinkUnavailable"]
