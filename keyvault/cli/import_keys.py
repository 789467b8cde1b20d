"""`keyvault import dotenv|csv|openbao|aws-sm`: bring existing keys, one request for each owner.

Nothing changes where they come from, and no value is ever printed. Bringing the
same values again asks nothing: the server knows them by their keyed fingerprints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyvault.cli import connecting, found, printing
from keyvault.cli.codes import Exit
from keyvault.cli.found import Found
from keyvault.launcher.arguments import Arguments
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from keyvault.client import Client

JSON = Any
WAIT_S = 120.0
_DEFAULTS = (
    "connection",
    "environment",
    "team",
    "owner",
    "purpose",
    "delivery_mode",
    "lifetime_days",
    "cadence_days",
    "calendar",
)
_NEEDED = ("connection", "environment", "team")
_WHY = {
    "in_file": "stands there twice, as {of}",
    "known": "is known already as {of}",
    "asked": "waits for a decision already as {of}",
}
_HIDDEN = "a key that you may not see"


def run(argv: Sequence[str]) -> int:
    """Read one source and bring what it holds. Raises Stop."""
    given = _parse(argv)
    brought = _chosen(given)
    if given.dry_run:
        return _foretell(brought, given)
    long, short = found.by_length(brought)
    done = _Done(keys=len(brought), short=[one.said["name"] for one in short])
    with connecting.connected() as caller:
        for batch in found.calls(list(found.unlike(long))):
            _bring(caller.client, batch, given, done)
    done.twins(long)
    done.tell(given, caller.client.core.settings.url)
    return Exit.DONE


def _parse(argv: Sequence[str]) -> Namespace:
    parser = Arguments(prog="keyvault import", description="Take existing keys into keyvault.")
    what = parser.add_subparsers(dest="what", required=True, metavar="dotenv|csv|openbao|aws-sm")
    for name, arguments, text in _SOURCES:
        one = what.add_parser(name, help=text)
        for argument in arguments:
            one.add_argument(argument, type=Path if argument == "FILE" else str)
        _options(one)
    given = parser.parse_args(argv)
    if not given.dry_run and not (given.reason or "").strip():
        raise Stop("Say why, for those who decide: --reason WHY", code=Exit.USAGE)
    return given


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", help="why, for those who decide")
    parser.add_argument("--ticket", default="")
    for name in _DEFAULTS:
        option = "--delivery" if name == "delivery_mode" else f"--{name.replace('_', '-')}"
        parser.add_argument(option, dest=name, default="", help="of keys that say nothing else")
    parser.add_argument("--prefix", default="", help="begins the name of every key")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="these names")
    parser.add_argument("--skip", action="append", default=[], metavar="GLOB", help="not these")
    parser.add_argument("--dry-run", action="store_true", help="list names, bring nothing")
    parser.add_argument("--json", action="store_true", help="for programs")


def _chosen(given: Namespace) -> list[Found]:
    """Return what the source holds and the options leave. Raises Stop."""
    defaults = {name: text for name in _DEFAULTS if (text := getattr(given, name))}
    rows = [found.completed(one, defaults) for one in _READ[given.what](given)]
    rows = [one for one in (_named(row, given) for row in rows) if _is_wanted(one, given)]
    if not rows:
        raise Stop("There is no value to bring.", code=Exit.USAGE)
    for one in rows:
        missing = [name for name in _NEEDED if not one.said.get(name)]
        if missing and not given.dry_run:
            raise Stop(f"{one.where}: say its {missing[0]}: --{missing[0]}", code=Exit.USAGE)
    return rows


def _named(row: Found, given: Namespace) -> Found:
    if not given.prefix:
        return row
    return Found(row.where, row.value, {**row.said, "name": given.prefix + row.said["name"]})


def _is_wanted(row: Found, given: Namespace) -> bool:
    """Judge by the name of the key and by that of the source, in whatever case."""
    names = [row.said.get("name", "").lower(), row.said.get("title", "").lower()]

    def fits(globs: Sequence[str]) -> bool:
        return any(fnmatchcase(name, glob.lower()) for name in names for glob in globs)

    return (not given.only or fits(given.only)) and not fits(given.skip)


def _bring(client: Client, batch: Sequence[Found], given: Namespace, done: _Done) -> None:
    """Send the keys of one owner. Raises Stop: with what was brought before, and what is wrong."""
    from keyvault.client import Refused  # noqa: PLC0415 - with it come sockets and TLS.

    keys = [found.body_of(one) for one in batch]
    body = {"keys": keys, "reason": given.reason, "ticket": given.ticket}
    try:
        done.add(client.do(client.core.api("POST", "/imports", body=body, timeout_s=WAIT_S)))
    except Refused as refused:
        faults = list(_faults(refused.problem, batch))
        if not faults:
            raise
        done.tell(given, client.core.settings.url, is_part=True)
        raise Stop("\n  ".join([f"{refused}", *faults]), code=Exit.REFUSED) from None


def _faults(problem: Mapping[str, JSON], batch: Sequence[Found]) -> list[str]:
    """Return a line for each fault: where the key stood, its field, and the mend."""
    lines = []
    for fault in problem.get("errors", []):
        _, _, rest = str(fault.get("pointer", "")).partition("/keys/")
        at, _, name = rest.partition("/")
        where = batch[int(at)].where if at.isdigit() and int(at) < len(batch) else ""
        parts = [where, name or str(fault.get("pointer", "")), str(fault.get("detail", ""))]
        lines.append(printing.plain(": ".join(part for part in parts if part)))
    return lines


def _foretell(brought: Sequence[Found], given: Namespace) -> int:
    rows = [
        {"name": one.said.get("name"), "owner": one.owner, "where": one.where} for one in brought
    ]
    if given.json:
        printing.as_json(rows)
    else:
        printing.table(rows, {"name": "key", "owner": "owner", "where": "found at"})
    return Exit.DONE


@dataclass
class _Done:
    """What became of the keys so far."""

    keys: int
    short: list[str]
    requests: list[dict[str, JSON]] = field(default_factory=list)
    duplicates: list[dict[str, JSON]] = field(default_factory=list)

    def add(self, answer: Mapping[str, JSON]) -> None:
        """Note what the server says of one call."""
        self.requests += answer["requests"]
        self.duplicates += answer["duplicates"]

    def twins(self, brought: Sequence[Found]) -> None:
        """Note the values that were not sent, because another key of the source has them."""
        first: dict[str, str] = {}
        for one in brought:
            name = one.said["name"]
            if one.value in first:
                twin = {"name": name, "why": "in_file", "of": first[one.value]}
                self.duplicates.append(twin)
            first.setdefault(one.value, name)

    def tell(self, given: Namespace, url: str, *, is_part: bool = False) -> None:
        """Print it; `is_part`: nothing when nothing was done."""
        if is_part and not self.requests and not self.duplicates:
            return
        if given.json:
            facts = {"requests": self.requests, "duplicates": self.duplicates}
            printing.as_json({**facts, "too_short": self.short})
            return
        for name in self.short:
            print(printing.plain(f"{name} is too short for a secret, and was left out"))
        for row in self.duplicates:
            why = _WHY[row["why"]].format(of=row["of"] or _HIDDEN)
            print(printing.plain(f"{row['name']} {why}"))
        rows = [
            {**row, "count": len(row["keys"]), "page": f"{url}{row['page']}"}
            for row in self.requests
        ]
        if rows:
            columns = {"label": "request", "owner": "owner", "count": "keys", "page": "page"}
            printing.table(rows, columns)
        asked = sum(len(row["keys"]) for row in self.requests)
        print(f"{asked} of {self.keys} asked for. Nothing was changed where they come from.")


def _dotenv(given: Namespace) -> list[Found]:
    from keyvault.cli import found_in_files  # noqa: PLC0415 - only what is asked for is loaded.

    return found_in_files.dotenv(given.FILE)


def _csv(given: Namespace) -> list[Found]:
    from keyvault.cli import found_in_files  # noqa: PLC0415 - see above.

    return found_in_files.table(given.FILE)


def _openbao(given: Namespace) -> list[Found]:
    from keyvault.cli import found_in_vaults  # noqa: PLC0415 - see above.

    return found_in_vaults.openbao(given.ADDRESS, given.PATH)


def _aws(given: Namespace) -> list[Found]:
    from keyvault.cli import found_in_vaults  # noqa: PLC0415 - see above.

    return found_in_vaults.aws_secrets(given.REGION, given.PREFIX)


_SOURCES = (
    ("dotenv", ("FILE",), "the variables of a file"),
    ("csv", ("FILE",), "the rows of a table with a header"),
    ("openbao", ("ADDRESS", "PATH"), "the texts of secrets at a path, KV version 2"),
    ("aws-sm", ("REGION", "PREFIX"), "the texts of secrets in AWS Secrets Manager"),
)
_READ: Mapping[str, Callable[[Namespace], list[Found]]] = {
    "dotenv": _dotenv,
    "csv": _csv,
    "openbao": _openbao,
    "aws-sm": _aws,
}
