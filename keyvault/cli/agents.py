"""`keyvault agents list`: the machine identities that the caller may see."""

from __future__ import annotations

from collections.abc import Sequence

from keyvault.cli import connecting, printing
from keyvault.cli.codes import Exit
from keyvault.launcher.arguments import Arguments

_COLUMNS = {
    "name": "agent",
    "state": "state",
    "owner": "owner",
    "team": "team",
    "last_seen_at": "last seen",
}


def run(argv: Sequence[str]) -> int:
    """Print one line for each agent. Raises Stop."""
    parser = Arguments(prog="keyvault agents", description="Agents of yours and of your teams.")
    what = parser.add_subparsers(dest="what", required=True, metavar="list")
    listed = what.add_parser("list", help="one line for each")
    listed.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(argv)
    with connecting.connected() as caller:
        client = caller.client
        found = client.do(client.core.api("GET", "/agents", query={"limit": "200"}))["items"]
    if given.json:
        printing.as_json(found)
    else:
        rows = [row | {"owner": row["owner"]["name"]} for row in found]
        printing.table(rows, _COLUMNS)
    return Exit.DONE
