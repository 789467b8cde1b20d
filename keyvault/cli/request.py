"""`keyvault request create|list|show|withdraw`: ask for an act, and follow what becomes of it.

Deciding is not among them: that takes a person, a page and a second factor.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyvault.cli import connecting, printing
from keyvault.cli.codes import Exit
from keyvault.launcher.arguments import Arguments
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from argparse import Namespace

    from keyvault.client import Client

CREATE_KEY = "key.create"
WAIT_S = 25
_OPEN = frozenset({"draft", "pending", "changes_asked", "approved", "executing"})
_COLUMNS = {
    "label": "request",
    "state": "state",
    "kind": "kind",
    "title": "about",
    "expires_at": "lapses",
}


def run(argv: Sequence[str]) -> int:
    """Do one of the four. Raises Stop."""
    given = _parse(argv)
    body = _body(given) if given.what == "create" else {}
    with connecting.connected() as caller:
        code: int = _ACTS[given.what](caller.client, given, body)
        return code


def _parse(argv: Sequence[str]) -> Namespace:
    parser = Arguments(prog="keyvault request", description="Ask for an act and follow it.")
    what = parser.add_subparsers(dest="what", required=True, metavar="create|list|show|withdraw")
    create = what.add_parser("create", help="ask for an act")
    create.add_argument(
        "kind", help="key.create, key.change, key.rotate, key.revoke, secret.reveal, grant.give"
    )
    create.add_argument("--reason", help="why, for those who decide")
    create.add_argument("--ticket", default="")
    for option in ("--key", "--agent"):
        create.add_argument(option, metavar="NAME")
    create.add_argument("--days", type=int)
    create.add_argument("--file", type=Path, help="a JSON object with the fields of the request")
    create.add_argument("fields", nargs="*", metavar="FIELD=TEXT|FIELD:=JSON")
    listed = what.add_parser("list", help="what you have asked")
    listed.add_argument("--state", default="")
    shown = what.add_parser("show", help="one request")
    withdrawn = what.add_parser("withdraw", help="take one back")
    for one in (shown, withdrawn):
        one.add_argument("request", metavar="REQ-NUMBER")
    for one in (create, shown):
        one.add_argument("--wait", action="store_true", help="until it is decided and done")
    for one in (create, listed, shown, withdrawn):
        one.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(argv)


def _body(given: Namespace) -> dict[str, Any]:
    """Return the object to send; fields of a new key stand in `declared`. Raises Stop."""
    body: dict[str, Any] = {"kind": given.kind, "ticket": given.ticket}
    if given.file:
        body |= _object(given.file.read_text(encoding="utf-8"), str(given.file))
    body |= {n: v for n in ("reason", "key", "agent", "days") if (v := getattr(given, n))}
    fields = dict(map(_field, given.fields))
    if given.kind == CREATE_KEY and fields:
        body["declared"] = {**body.get("declared", {}), **fields}
    else:
        body |= fields
    if not body.get("reason"):
        raise Stop("Say why, for those who decide: --reason WHY", code=Exit.USAGE)
    return body


def _field(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip(":"):
        raise Stop(f"write FIELD=TEXT or FIELD:=JSON, not {text!r}.", code=Exit.USAGE)
    if not name.endswith(":"):
        return name, value
    try:
        return name[:-1], json.loads(value)
    except ValueError:
        raise Stop(f"what follows {name}= is not JSON: {value!r}.", code=Exit.USAGE) from None


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Stop(f"{where} holds no JSON object.", code=Exit.USAGE)
    return found


def _create(client: Client, given: Namespace, body: dict[str, Any]) -> int:
    # A lost answer may be asked for again: the same key makes it one request.
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    made = client.do(client.core.api("POST", "/requests", body=body, headers=headers))
    return _tell(client, made, given)


def _list(client: Client, given: Namespace, _body: dict[str, Any]) -> int:
    query = {"limit": "200"} | ({"state": given.state} if given.state else {})
    found = client.do(client.core.api("GET", "/requests", query=query))
    if given.json:
        printing.as_json(found["items"])
    elif found["items"]:
        printing.table(found["items"], _COLUMNS)
    else:
        print("You have asked for nothing.")
    return Exit.DONE


def _show(client: Client, given: Namespace, _body: dict[str, Any]) -> int:
    path = f"/requests/{_id(client, given.request)}"
    return _tell(client, client.do(client.core.api("GET", path)), given)


def _withdraw(client: Client, given: Namespace, _body: dict[str, Any]) -> int:
    path = f"/requests/{_id(client, given.request)}/withdraw"
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    return _tell(client, client.do(client.core.api("POST", path, headers=headers)), given)


def _id(client: Client, text: str) -> str:
    """Return the id of a request that is named by its id or its number. Raises Stop."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        pass
    found = client.do(client.core.api("GET", "/requests", query={"limit": "200"}))
    for row in found["items"]:
        if row["label"].casefold() == text.casefold():
            return str(row["id"])
    raise Stop(f"there is no {text} among your requests.", code=Exit.REFUSED)


def _tell(client: Client, row: dict[str, Any], given: Namespace) -> int:
    """Print a request, when told to wait only once nothing more will happen to it."""
    while getattr(given, "wait", False) and row["state"] in _OPEN:
        path = f"/requests/{row['id']}"
        row = client.do(
            client.core.api("GET", path, query={"wait": str(WAIT_S)}, timeout_s=WAIT_S + 10)
        )
    if given.json:
        printing.as_json(row)
    else:
        _print(client, row)
    is_over = getattr(given, "wait", False) and row["state"] != "done"
    return Exit.REFUSED if is_over else Exit.DONE


def _print(client: Client, row: dict[str, Any]) -> None:
    progress = row.get("progress") or {}
    printing.facts(
        {
            "request": f"{row['label']}  {row['title']}",
            "state": row["state"],
            "approvals": f"{progress['have']} of {progress['need']}" if progress else None,
            "reason": row["reason"],
            "lapses": row["expires_at"] if row["state"] in _OPEN else None,
            "outcome": row["end_sentence"],
            "page": f"{client.core.settings.url}{row['page']}",
        }
    )


_ACTS = {"create": _create, "list": _list, "show": _show, "withdraw": _withdraw}
