"""What granian serves in tests: the real application over a read log that a test can break.

The log writes one line a read to the file of KEYVAULT_TESTS_READS, and fails
while a file beside it, with the ending `.broken`, exists.
"""

from __future__ import annotations

import os
from pathlib import Path

from keyvault.gateway import settings
from keyvault.gateway.records import LogUnavailable, Read
from keyvault.gateway.server import Application

_LINES = Path(os.environ["KEYVAULT_TESTS_READS"])


class Lines:
    """A read log that can be read by people."""

    async def append(self, reads: tuple[Read, ...]) -> None:
        """Write one line a read."""
        if _LINES.with_suffix(".broken").exists():
            raise LogUnavailable
        with _LINES.open("a", encoding="utf-8") as lines:
            for read in reads:
                print(read.key, read.number, read.token, read.door, read.source, file=lines)

    def deny(self, source: str, principal: str, reason: str) -> None:
        """Write one line."""
        with _LINES.open("a", encoding="utf-8") as lines:
            print("denied", source, principal, reason, file=lines)

    def close(self) -> None:
        """Leave the file as it is."""


application = Application(settings.load(), Lines())
