"""`keyvault demo list` and `keyvault demo code NAME`: the people of a demo and their codes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keyvault.launcher.arguments import Arguments
from keyvault.launcher.installation import default_dir
from keyvault.launcher.sentences import Stop

STEP_S, DIGITS = 30, 6


def run(argv: Sequence[str]) -> int:
    """Print a current code, or everybody's name, password and roles. Raises Stop."""
    parser = Arguments(prog="keyvault demo", description="The people of ./kv up --demo.")
    parser.add_argument("--data", type=Path, default=default_dir(demo=True))
    what = parser.add_subparsers(dest="what", required=True, metavar="code|list")
    what.add_parser("list", help="who there is")
    code = what.add_parser("code", help="a current code and its seconds left")
    code.add_argument("name")
    given = parser.parse_args(argv)
    people = _people(given.data)
    return _list(people) if given.what == "list" else _code(people, given.name, time.time())


def _people(data: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads((data / "demo.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Stop(f"There is no demo in {data}. Start one: ./kv up --demo") from None
    return {person["username"]: person for person in found["people"]}


def _list(people: dict[str, dict[str, Any]]) -> int:
    for name, person in people.items():
        print(f"{name:<8}{person['password']:<26}{', '.join(person['roles'])}")
    return 0


def _code(people: dict[str, dict[str, Any]], name: str, at: float) -> int:
    if name not in people:
        raise Stop(f"there is no {name} in the demo. People: {', '.join(people)}.", code=2)
    seconds_left = STEP_S - int(at) % STEP_S
    print(f"{totp(people[name]['totp_secret'], int(at) // STEP_S)}  {seconds_left} s left")
    return 0


def totp(secret: str, step: int) -> str:
    """Return the code of a base32 secret at a time step (RFC 6238, SHA-1, six digits)."""
    seed = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(seed, struct.pack(">Q", step), hashlib.sha1).digest()
    offset = digest[-1] & 0x0F
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"
