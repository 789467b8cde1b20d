"""`keyvault bench [NAME]`: run the benchmarks of tests/load on embedded servers.

A benchmark is `tests/load/bench_NAME.py`; it prints its own table. PostgreSQL
syncs its commits to the disk, as it does in an installation.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from keyvault.launcher.installation import ROOT
from keyvault.launcher.sentences import Stop
from keyvault.launcher.throwaway import throwaway_servers


def run(argv: Sequence[str]) -> int:
    """Run one benchmark, or all of them; 1 when one fails. Raises Stop."""
    names = [path.stem.removeprefix("bench_") for path in (ROOT / "tests/load").glob("bench_*.py")]
    wanted, options = (list(argv[:1]), list(argv[1:])) if argv else (sorted(names), [])
    if not wanted or wanted[0] not in names:
        raise Stop(f"there is no such benchmark. Benchmarks: {', '.join(sorted(names))}.", code=2)
    return asyncio.run(_run(wanted, options))


async def _run(names: Sequence[str], options: Sequence[str]) -> int:
    async with throwaway_servers(fsync=True) as env:
        codes = []
        for name in names:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"tests.load.bench_{name}", *options),
                cwd=ROOT,
                env={**os.environ, **env, "DJANGO_SETTINGS_MODULE": "tests.settings"},
            )
            codes.append(await process.wait())
    return int(any(codes))
