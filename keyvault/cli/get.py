"""`keyvault get NAME`: one key's current value, for a pipe; on a terminal only when asked to."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keyvault.cli import connecting, printing
from keyvault.cli.codes import Exit
from keyvault.launcher.arguments import Arguments
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from keyvault.cli.connecting import Caller
    from keyvault.client import Value


def run(argv: Sequence[str]) -> int:
    """Print the value, or on a terminal what is known of it. Raises Stop."""
    parser = Arguments(
        prog="keyvault get",
        description="Print the current value of a key. On a terminal it stays hidden without --show.",
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--field", help="one field of a key that has several")
    parser.add_argument(
        "--version",
        metavar="WHICH",
        default="",
        help="current (default), a number, or pending: what a running rotation has laid ready",
    )
    parser.add_argument("--show", action="store_true", help="print the value also here")
    parser.add_argument("--json", action="store_true", help="print facts; the value with --show")
    given = parser.parse_args(argv)
    with connecting.connected() as caller:
        refuse_people(caller, given.name)
        client = caller.client
        value = client.read(given.name, given.version) if given.version else client.get(given.name)
        return _print(value, given.field, show=given.show, as_json=given.json)


def refuse_people(caller: Caller, name: str) -> None:
    """Send a person to the console, where a value is revealed once, by approval. Raises Stop."""
    if caller.person:
        page = f"{caller.client.core.settings.url}/keys/{name}/"
        raise Stop(
            f"Values are delivered to agents; a person asks to see one: "
            f"keyvault request create secret.reveal --key {name} --reason WHY, or {page}",
            code=Exit.REFUSED,
        )


def revealed(value: Value, field: str | None) -> str:
    """Return the plain text of a value or one of its fields. Raises Stop."""
    from keyvault.client.values import NoSuchField  # noqa: PLC0415

    try:
        return value.reveal(field)
    except NoSuchField as error:
        raise Stop(str(error), code=Exit.USAGE) from None


def _print(value: Value, field: str | None, *, show: bool, as_json: bool) -> int:
    if as_json:
        shown = {name: value.reveal(name) for name in value.fields} if show else {}
        printing.as_json({**_facts(value), **({"fields": shown} if show else {})})
    elif show or not sys.stdout.isatty():
        # Exactly its bytes into a pipe, so that a file of it is the value and nothing else.
        end = "\n" if sys.stdout.isatty() else ""
        sys.stdout.write(revealed(value, field) + end)
    else:
        printing.facts(_facts(value) | {"value": "hidden; print it with --show, or into a pipe"})
    sys.stdout.flush()
    return Exit.DONE


def _facts(value: Value) -> dict[str, Any]:
    return {
        "key": value.key,
        "version": value.version,
        "expires_at": value.expires_at.isoformat() if value.expires_at else None,
        "not_after": value.not_after.isoformat() if value.not_after else None,
    }
