"""A bench for env files: a real directory, and a file system that fails on demand."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dotenv

from keyvault import outbound
from keyvault.destinations.env_file import EnvFile, directory
from keyvault.plugins.context import Call, call


class FailingSystem:
    """Stands for the module `os` in the plug-in, and fails in the calls that a test names."""

    def __init__(self, *, fails: Sequence[str], after: bool, text: str) -> None:
        self._fails, self._after, self._text = fails, after, text
        self.hits = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._failing(real) if name in self._fails else real

    def _failing(self, real):
        def fail(*args, **kwargs):
            self.hits += 1
            if self._after:
                real(*args, **kwargs)
            raise OSError(errno.EIO, self._text, self._text)

        return fail


@dataclass
class EnvFileBench:
    """One file in a directory of its own."""

    root: Path
    options: Mapping[str, Any] = field(
        default_factory=lambda: {"file": "app.env", "variables": "value=API_KEY username=DB_USER"}
    )
    hits: int = 0

    def __post_init__(self) -> None:
        self.destination = EnvFile((str(self.root),))
        self.place = self.root / "svc"
        self.place.mkdir()

    @property
    def file(self) -> Path:
        return self.place / self.options["file"]

    def call(self, *, timeout_s: float = 10.0) -> Call:
        return call(
            outbound.Guard(),
            timeout_s=timeout_s,
            config={"directory": str(self.place)},
            options=self.options,
            admin={},
        )

    def consumed(self) -> bytes | None:
        value = dotenv.dotenv_values(self.file).get("API_KEY") if self.file.exists() else None
        return value.encode() if value is not None else None

    def state(self) -> object:
        return {
            path.name: (path.read_bytes(), path.stat().st_mode, path.stat().st_ino)
            for path in self.place.iterdir()
        }

    def overwrite(self) -> None:
        """Change the value under our own first line, as an editor does."""
        text = self.file.read_text() if self.file.exists() else ""
        kept = [line for line in text.splitlines(keepends=True) if not line.startswith("API_KEY")]
        self.file.write_text("".join(kept) + "API_KEY=typed-by-hand\n")

    def settle(self) -> None:
        pass

    def lose_request(self):
        return self._failing(("rename",), after=False)

    def lose_answer(self):
        return self._failing(("rename",), after=True)

    @contextmanager
    def hang(self) -> Iterator[None]:
        """Hold the lock, as another process of keyvault does that was stopped."""
        fd = os.open(self.place, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(fd)

    def down(self):
        return self._failing(("open",), after=False)

    def hostile(self, words: Sequence[bytes]):
        return self._failing(("rename",), after=False, text=b" ".join(words).decode())

    def struck(self) -> int:
        return self.hits

    def admin_secrets(self) -> Sequence[bytes]:
        return []

    @contextmanager
    def _failing(
        self, fails: Sequence[str], *, after: bool, text: str = "broken"
    ) -> Iterator[None]:
        system = FailingSystem(fails=fails, after=after, text=text)
        directory.os = system  # type: ignore[assignment]
        try:
            yield
        finally:
            directory.os = os
            self.hits = system.hits
