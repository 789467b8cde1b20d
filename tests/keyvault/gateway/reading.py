"""Reads for the log: one process worth of them, and the address of the test's own database."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import quote
from uuid import UUID

from django.db import connection

from keyvault.gateway.records import Door, Mode, Read
from keyvault.gateway.segments import Segments

AGENT, KEY = UUID(int=1), UUID(int=2)


def read(request: str = "r", **changes: object) -> Read:
    """Return one read of billing-reader."""
    facts = {
        "at": time.time(),
        "agent_id": AGENT,
        "token": "abcdefgh",
        "key_id": KEY,
        "key": "billing-reader",
        "number": 3,
        "door": Door.KEY,
        "source": "192.0.2.7",
        "request": request,
    }
    return Read(**{**facts, **changes})


def database_url() -> str:
    """Return the address of the database of this test, as a gateway process is given it."""
    given = connection.settings_dict
    return (
        f"postgresql://{quote(given['USER'])}:{quote(given['PASSWORD'])}@/{quote(given['NAME'])}"
        f"?host={quote(given['HOST'], safe='')}&port={given['PORT'] or 5432}"
    )


def written(
    directory, count: int = 1, *, mode: Mode = Mode.DURABLE, url: str | None = None
) -> None:
    """Open a log, append `count` reads at once and close it again."""

    async def work() -> None:
        log = Segments.open(directory, mode, url or database_url())
        try:
            await asyncio.gather(*(log.append((read(f"r{n}"),)) for n in range(count)))
        finally:
            await asyncio.to_thread(log.close)

    asyncio.run(work())
