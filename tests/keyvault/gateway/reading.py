"""A log of reads in the test's own database."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import quote

from django.db import connection

from keyvault.gateway.records import Mode
from keyvault.gateway.segments import Segments
from tests.keyvault.gateway.sample import read


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


def recovered(directory, *, url: str | None = None, most_s: float = 30) -> None:
    """Run a log on the directory until it has shipped what dead processes left there."""
    until = time.monotonic() + most_s
    log = Segments.open(directory, Mode.DURABLE, url or database_url())
    try:
        while len(list(directory.glob("*.lock"))) > 1:
            assert time.monotonic() < until, "the dead process was not recovered in time"
            time.sleep(0.02)
    finally:
        log.close()
