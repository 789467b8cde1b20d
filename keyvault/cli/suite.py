"""`keyvault test`: the whole suite on embedded servers, with no configuration.

    keyvault test [--campaigns] [--servers] [anything that pytest takes]

The servers live in a directory of their own that is thrown away; DATABASE_URL
and KEYVAULT_BROKER_URL replace them. The whole suite runs as three processes at
once, each with a database of its own: what drives a browser, what starts servers
and waits for them, and the rest. Ends with one line of counts and an exit code of
pytest.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from keyvault.launcher.installation import ROOT
from keyvault.launcher.sentences import Stop
from keyvault.launcher.throwaway import throwaway_servers

# What runs only when it is asked for, by the mark of its tests: what takes long, and what
# needs servers that no wheel brings.
ON_DEMAND = {"--campaigns": "campaign", "--servers": "servers"}
# Each takes about as long as the rest does. What drives a browser leaves an event loop
# running in its process, beside which nothing else could run one.
BESIDE = {
    "browser": ("tests/browser", "tests/flows"),
    "servers": (
        "tests/contracts",
        "tests/keyvault/gateway",
        "tests/keyvault/launcher",
        "tests/keyvault/rotation",
    ),
}
_CLOSING = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+,? )+|no tests ran )in \d+\.\d\ds", re.MULTILINE)
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


def run(argv: Sequence[str]) -> int:
    """Run pytest and return its exit code. Raises Stop when there is no suite here."""
    if not (ROOT / "tests").is_dir():
        raise Stop("The tests are part of the source tree, which this is not.", code=2)
    arguments = _chosen(argv)
    is_part = any((ROOT / word.partition("::")[0]).exists() for word in arguments)
    return asyncio.run(_part(arguments) if is_part else _whole(arguments))


def _chosen(argv: Sequence[str]) -> list[str]:
    """Return what pytest is told: all that runs only on demand is left out unless it is asked for."""
    arguments = [word for word in argv if word not in ON_DEMAND]
    left_out = [mark for word, mark in ON_DEMAND.items() if word not in argv]
    if left_out and "-m" not in arguments:
        arguments = ["-m", " and ".join(f"not {mark}" for mark in left_out), *arguments]
    return arguments


async def _part(arguments: Sequence[str]) -> int:
    async with throwaway_servers() as env:
        process = await _pytest(arguments, env)
        return await process.wait()


async def _whole(arguments: Sequence[str]) -> int:
    """Run all parts at once; those beside the rest speak when it has ended."""
    elsewhere = [f"--ignore={path}" for paths in BESIDE.values() for path in paths]
    async with throwaway_servers() as env:
        rest = await _pytest([*arguments, "tests", *elsewhere], env, piped=True)
        beside = [
            await _pytest([*arguments, *paths], _apart(env, name), piped=True)
            for name, paths in BESIDE.items()
        ]
        told, *held = await asyncio.gather(_tell(rest), *map(_keep, beside))
    sys.stdout.writelines(held)
    counts = sum(map(_counts, [told, *held]), Counter[str]())
    # The closing line that a reader of any runner understands.
    print(
        f"{counts['passed']} passed, {counts['failed']} failed"
        + (f", {counts['skipped']} skipped" if counts["skipped"] else "")
    )
    return _verdict([process.returncode for process in (rest, *beside)])


def _verdict(codes: Iterable[int | None]) -> int:
    """Return the first code of a part that failed; a part that was killed has a negative one."""
    return next((code for code in codes if code), 0)


async def _pytest(
    arguments: Sequence[str], env: Mapping[str, str], *, piped: bool = False
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "pytest", *arguments),
        cwd=ROOT,
        env={
            **os.environ,
            **env,
            **_bytecode(env),
            "DJANGO_SETTINGS_MODULE": "tests.settings",
        },
        stdout=asyncio.subprocess.PIPE if piped else None,
        stderr=asyncio.subprocess.STDOUT if piped else None,
    )


def _bytecode(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep bytecode among what is thrown away, if none is kept elsewhere.

    The suite starts hundreds of Python processes. Where the environment forbids to
    write bytecode, as that of many container images does, each would compile all
    that it imports, which takes several times as long as the import.
    """
    if not sys.dont_write_bytecode:
        return {}
    kept = Path(env["KEYVAULT_DATA_DIR"]).with_name("bytecode")
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(kept)}


def _apart(env: Mapping[str, str], name: str) -> dict[str, str]:
    """Return the variables of a part of its own: other database, other directories."""
    address = urlsplit({**os.environ, **env}["DATABASE_URL"])
    moved = {"DATABASE_URL": urlunsplit(address._replace(path=f"{address.path}_{name}"))}
    for variable in ("KEYVAULT_DATA_DIR", "KEYVAULT_KEYS_DIR"):
        place = Path(env[variable])
        moved[variable] = str(place.with_name(f"{place.name}-{name}"))
    return {**env, **moved}


async def _tell(process: asyncio.subprocess.Process) -> str:
    """Pass the output on as it comes, and return it."""
    assert process.stdout is not None  # noqa: S101 - it was piped.
    parts = []
    while chunk := await process.stdout.read(4096):
        parts.append(chunk.decode("utf-8", "replace"))
        sys.stdout.write(parts[-1])
        sys.stdout.flush()
    await process.wait()
    return "".join(parts)


async def _keep(process: asyncio.subprocess.Process) -> str:
    out, _ = await process.communicate()
    return out.decode("utf-8", "replace")


def _counts(output: str) -> Counter[str]:
    """Return the counts of pytest's closing line; an error is a failure, and so is no such line.

    More may follow that line: what went wrong while pytest ended.
    """
    closing = _CLOSING.findall(output)
    if not closing:
        return Counter(failed=1)
    found: Counter[str] = Counter()
    for number, word in _COUNT.findall(closing[-1]):
        found["failed" if word.startswith("error") else word] += int(number)
    return found
