"""`keyvault test`: the whole suite on embedded servers, with no configuration.

    keyvault test [--campaigns] [anything that pytest takes]

The servers live in a directory of their own that is thrown away; DATABASE_URL
and KEYVAULT_BROKER_URL replace them. Prints pytest's closing line last and
ends with pytest's exit code.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from keyvault.launcher.installation import ROOT
from keyvault.launcher.sentences import Stop
from keyvault.launcher.throwaway import throwaway_servers

CAMPAIGNS = "--campaigns"


def run(argv: Sequence[str]) -> int:
    """Run pytest and return its exit code. Raises Stop when there is no suite here."""
    if not (ROOT / "tests").is_dir():
        raise Stop("The tests are part of the source tree, which this is not.", code=2)
    arguments = [word for word in argv if word != CAMPAIGNS]
    if CAMPAIGNS not in argv and "-m" not in arguments:
        arguments = ["-m", "not campaign", *arguments]
    return asyncio.run(_run(arguments))


async def _run(arguments: Sequence[str]) -> int:
    async with throwaway_servers() as env:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "pytest", *arguments),
            cwd=ROOT,
            env={**os.environ, **env, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        )
        return await process.wait()
