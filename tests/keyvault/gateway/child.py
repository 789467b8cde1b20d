"""A gateway process without its HTTP: reads as fast as it can, says each one that was answered.

    python -m tests.keyvault.gateway.child DIRECTORY MODE DATABASE_URL NAME

Each line on standard output is the request id of one read that `append` has
returned for: whoever reads the line has the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

import uvloop

from keyvault.gateway.records import LogUnavailable, Mode
from keyvault.gateway.segments import Segments
from tests.keyvault.gateway.sample import read

TASKS = 32


async def main(directory: str, mode: str, database_url: str, name: str) -> None:
    """Read until somebody kills this process."""
    log = Segments.open(Path(directory), Mode(mode), database_url)
    numbers = itertools.count()

    async def work() -> None:
        while True:
            request = f"{name}-{next(numbers)}"
            try:
                await log.append((read(request),))
            except LogUnavailable:
                await asyncio.sleep(0.01)
            else:
                os.write(1, f"{request}\n".encode())

    await asyncio.gather(*(work() for _ in range(TASKS)))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
