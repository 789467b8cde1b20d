"""`keyvault check`: every linter and type check, side by side, one line each.

What a check has to say is shown only where it fails.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyvault.launcher.installation import ROOT
from keyvault.launcher.sentences import Stop

SIDE_BY_SIDE = max(2, os.cpu_count() or 2)
_BIN = Path(sys.executable).parent

# What a production installation would set: `check --deploy` judges the settings as shipped.
_PRODUCTION = {
    "DATABASE_URL": "postgresql://kv_app@/keyvault?host=/nowhere",
    "KEYVAULT_BROKER_URL": "rediss://:password@queue.example:6379/0",
    "KEYVAULT_PUBLIC_URL": "https://keyvault.example",
    "DJANGO_SETTINGS_MODULE": "keyvault.settings",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name on the screen, its command, what it needs in its environment."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


def _django(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-W", "ignore::RuntimeWarning", "-m", "django", *arguments]


def all_checks() -> tuple[Check, ...]:
    """Return the checks, the slowest first."""
    production = {**_PRODUCTION, "KEYVAULT_SECRET_KEY": secrets.token_urlsafe(64)}
    sizes = ["pytest", "-q", "-p", "no:randomly", "tests/test_architecture.py", "-k", "small"]
    return (
        Check("types (mypy)", [str(_BIN / "mypy"), "keyvault", "approvals"], production),
        Check("imports (import-linter)", [str(_BIN / "lint-imports")]),
        Check("lint (ruff)", [str(_BIN / "ruff"), "check", "."]),
        Check("format (ruff)", [str(_BIN / "ruff"), "format", "--check", "."]),
        Check(
            "templates (djhtml)", [str(_BIN / "djhtml"), "--tabwidth", "2", "--check", "templates"]
        ),
        Check("migrations", _django("makemigrations", "--check", "--dry-run"), production),
        Check("deployment", _django("check", "--deploy", "--fail-level", "WARNING"), production),
        Check(
            "sizes", [sys.executable, "-P", "-m", *sizes], {"DATABASE_URL": "postgresql:///none"}
        ),
    )


def run(argv: Sequence[str]) -> int:
    """Run all checks, or those whose name begins with a given word; 1 when any fails."""
    wanted = [c for c in all_checks() if not argv or any(c.name.startswith(w) for w in argv)]
    if not wanted:
        names = ", ".join(check.name.split()[0] for check in all_checks())
        raise Stop(f"there is no check {argv[0]!r}. Checks: {names}.", code=2)
    failed = asyncio.run(_run_all(wanted))
    print(f"{len(wanted) - failed} of {len(wanted)} checks passed")
    return 1 if failed else 0


async def _run_all(wanted: Sequence[Check]) -> int:
    gate = asyncio.Semaphore(SIDE_BY_SIDE)
    results = await asyncio.gather(*(_run_one(check, gate) for check in wanted))
    return results.count(False)


async def _run_one(check: Check, gate: asyncio.Semaphore) -> bool:
    async with gate:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *check.argv,
            cwd=ROOT,
            env={**os.environ, **check.env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    passed = process.returncode == 0
    print(f"{'ok  ' if passed else 'FAIL'} {check.name:<26}{time.monotonic() - began:5.1f} s")
    if not passed:
        print("\n".join(f"     {line}" for line in output.decode().rstrip().splitlines()))
    sys.stdout.flush()
    return passed
