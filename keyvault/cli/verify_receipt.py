"""Check an approval receipt offline: this file, the receipt and a pinned key are enough.

    python verify_receipt.py REQ-1001-approve.json --trust KEY

KEY is the server's receipt key: 64 hex digits, base64, a PEM, or a file that
holds one of them. Needs Python 3.11 and the package `cryptography`, which is
imported only when a signature is checked. Imports nothing of keyvault.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

FORMAT = "keyvault-receipt/1"
PLAN_FORMAT = "approvals-plan/1"
MEMBERS = {"receipt", "signature", "comment", "seen", "plan", "public_key"}
KEY_BYTES = 32
MAX_BYTES = 5_000_000
SAYS = {"approve": "approved", "reject": "rejected", "changes": "asked for changes to"}


class Bad(Exception):
    """The receipt proves nothing; the message says which check failed."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a receipt proves, in plain words; `is_pinned` when a key was trusted beforehand."""

    receipt: dict[str, Any]
    plan: dict[str, Any]
    key_id: str
    is_pinned: bool

    def words(self) -> list[str]:
        """Return what is proven and what is not, one sentence a line."""
        receipt, plan = self.receipt, self.plan["plan"]
        request, person, factor = receipt["request"], receipt["person"], receipt["factor"]
        return [
            (
                f"{person['label']} {SAYS[receipt['verdict']]} {request['number']}, "
                f"revision {request['revision']}, at {receipt['decided_at']}."
            ),
            f"The plan that was signed: {plan['sentence']}",
            (
                f"Asked by {receipt['requester']['label']} under policy "
                f"{receipt['policy']['name']}, version {receipt['policy']['version']}."
            ),
            *(
                ["Decided alone: the installation had one administrator."]
                if receipt["solo"]
                else []
            ),
            (
                f"Second factor: {factor['method']}, {factor['age_s']} s old, {factor['assurance']}: "
                "the server vouches for it; it is not the person's own signature."
            ),
            f"Signed by key {self.key_id}"
            + ("." if self.is_pinned else ", which the file itself names: pin it with --trust."),
            "Not proven here: that the plan was carried out. The ledger shows that.",
        ]


def verify(path: Path, trust: str = "") -> Verified:
    """Check a receipt file against a trusted key. Raises Bad, OSError.

    Without `trust` the key in the file is used; that finds damage, and proves
    nothing against whoever could write the whole file.
    """
    document = _read(path)
    receipt, plan = document["receipt"], document["plan"]
    if receipt.get("format") != FORMAT or plan.get("format") != PLAN_FORMAT:
        raise Bad("This is not a receipt of a format that this verifier knows.")
    public = _key(trust or str(document["public_key"]))
    _check_signature(public, receipt, document["signature"])
    _check_digests(document)
    _check_agreement(receipt, plan)
    return Verified(receipt, plan, key_id(public), bool(trust))


def key_id(public: bytes) -> str:
    """Return the short name of a public key: 16 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def canonical(value: object) -> bytes:
    """Return the bytes that were signed: members sorted, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_BYTES:
        raise Bad("The file is too large to be a receipt.")
    try:
        found = json.loads(
            path.read_text(encoding="utf-8"),
            object_pairs_hook=_once,
            parse_float=_no_float,
            parse_constant=_no_float,
        )
    except (ValueError, RecursionError) as error:
        raise Bad(f"The file is not the JSON of a receipt: {error}") from None
    if not isinstance(found, dict) or set(found) != MEMBERS:
        raise Bad("The file does not have the members of a receipt.")
    if not all(isinstance(found[name], dict) for name in ("receipt", "plan", "seen")):
        raise Bad("The file does not have the members of a receipt.")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a member that stands twice: two readers would take different ones."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{text} has no canonical form")


def _key(text: str) -> bytes:
    """Return the raw public key given as text or as a file that holds it. Raises Bad."""
    place = Path(text)
    if len(text) < 1000 and "\n" not in text and place.is_file():  # noqa: PLR2004
        text = place.read_text(encoding="ascii", errors="replace")
    text = text.strip()
    if "BEGIN PUBLIC KEY" in text:
        # The last 32 bytes of an Ed25519 SubjectPublicKeyInfo are the key (RFC 8410 section 4).
        text = "".join(line for line in text.splitlines() if "-----" not in line)
        return _unbase64(text)[-KEY_BYTES:]
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = _unbase64(text)
    if len(raw) != KEY_BYTES:
        raise Bad("The trusted key is not an Ed25519 public key of 32 bytes.")
    return raw


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Bad("A key or signature is neither hex nor base64.") from None


def _check_signature(public: bytes, receipt: dict[str, Any], signature: object) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - see the module's text.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
        Ed25519PublicKey,
    )

    if receipt.get("key_id") != key_id(public):
        raise Bad(f"The receipt names key {receipt.get('key_id')}, not {key_id(public)}.")
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(_unbase64(str(signature)), canonical(receipt))
    except (InvalidSignature, ValueError):
        raise Bad("The signature does not belong to this receipt: it was altered.") from None


def _check_digests(document: dict[str, Any]) -> None:
    receipt = document["receipt"]
    for name, member, what in (
        ("plan", "plan_digest", "plan"),
        ("comment", "comment_digest", "note"),
        ("seen", "seen_digest", "record of what the page showed"),
    ):
        if hashlib.sha256(canonical(document[name])).hexdigest() != receipt[member]:
            raise Bad(f"The {what} in this file is not the one that was signed.")


def _check_agreement(receipt: dict[str, Any], plan: dict[str, Any]) -> None:
    """Compare what receipt and plan both say, and the separation of duties."""
    pairs = (
        (receipt["request"]["kind"], plan["kind"]),
        (receipt["requester"]["id"], plan["requester"]),
        (receipt["policy"]["version"], plan["policy_version"]),
    )
    if any(left != right for left, right in pairs):
        raise Bad("Receipt and plan name different acts, people or policies.")
    if receipt["person"]["id"] == receipt["requester"]["id"] and not receipt["solo"]:
        raise Bad("The person who decided is the person who asked.")


def main(argv: Sequence[str] | None = None) -> int:
    """Check one receipt and print what it proves; exit 1 when it proves nothing."""
    parser = argparse.ArgumentParser(
        prog="keyvault verify", description="Check an approval receipt offline."
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--trust", default="", help="the server's receipt key: hex, base64, file")
    parser.add_argument("--json", action="store_true", help="print the result for machines")
    options = parser.parse_args(argv)
    try:
        found = verify(options.file, options.trust)
    except (Bad, KeyError) as bad:
        reason = f"member {bad} is missing" if isinstance(bad, KeyError) else str(bad)
        _show({"ok": False, "reason": reason}, [f"NOT VALID: {reason}"], options.json)
        return 1
    lines = ["VALID", *found.words()]
    _show({"ok": True, "is_pinned": found.is_pinned, "proves": found.words()}, lines, options.json)
    return 0


def _show(result: dict[str, Any], lines: Sequence[str], is_json: bool) -> None:  # noqa: FBT001
    text = json.dumps(result, ensure_ascii=False) if is_json else "\n".join(lines)
    # A receipt holds text that people wrote: a terminal must not obey it.
    sys.stdout.write("".join(c if c.isprintable() or c == "\n" else "�" for c in text) + "\n")


if __name__ == "__main__":
    sys.exit(main())
