"""Canaries: values that must be nowhere, and the search for them in every disguise."""

from __future__ import annotations

import base64
import html
import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

# What escaping changes: quotes, a backslash, signs of addresses and of HTML, a letter beyond ASCII.
_HOSTILE = '"+/&<\\é'
_CHUNK = 3


def planted() -> str:
    """Return a new canary that looks different under every escaping."""
    return f"canary-{secrets.token_hex(8)}{_HOSTILE}{secrets.token_hex(4)}"


def plain() -> str:
    """Return a new canary that fits where only plain text is taken: a header, a cookie."""
    return f"canary{secrets.token_hex(12)}"


def disguises(canary: str) -> dict[str, bytes]:
    """Return how a canary may be written, by the name of the writing."""
    raw = canary.encode()
    escaped = json.dumps(canary)[1:-1]
    fours = [html.escape(canary[at : at + 4]).encode() for at in range(0, len(canary), 4)]
    found = {
        "raw": raw,
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "url": quote(canary, safe="").encode(),
        "form": quote_plus(canary).encode(),
        "json": escaped.encode(),
        "json in json": json.dumps(escaped)[1:-1].encode(),
        "utf-8 json": json.dumps(canary, ensure_ascii=False)[1:-1].encode(),
        "html": html.escape(canary).encode(),
        "repr": repr(canary)[1:-1].encode(),
        "log line": raw.decode().encode("unicode_escape"),
        "utf-16": canary.encode("utf-16-le"),
        "groups of four": b" ".join(fours),
        "spans of four": b"</span><span>".join(fours),
    }
    return found | _in_base64(raw)


def _in_base64(raw: bytes) -> dict[str, bytes]:
    """Return what base64 of anything that holds these bytes must hold, at each alignment."""
    found = {}
    for before in range(_CHUNK):
        whole = base64.b64encode(b"\0" * before + raw)
        # The first and the last group also depend on the neighbours.
        inner = whole[4 * bool(before) : len(whole) - 4]
        found[f"base64 {before}"] = inner
        found[f"url-safe base64 {before}"] = inner.translate(bytes.maketrans(b"+/", b"-_"))
    return found


def leaks(data: bytes, canaries: Iterable[str]) -> list[str]:
    """Return each canary's start and disguise that some bytes hold; empty when there is none."""
    return [
        f"{canary[:15]} as {name}"
        for canary in canaries
        for name, needle in disguises(canary).items()
        if needle in data
    ]


def leaking(evidence: Mapping[str, bytes], canaries: Iterable[str]) -> dict[str, list[str]]:
    """Return what leaks, by where it was found."""
    wanted = list(canaries)
    found = {where: leaks(data, wanted) for where, data in evidence.items()}
    return {where: what for where, what in found.items() if what}


def files(root: Path, *, without: Iterable[str] = ()) -> dict[str, bytes]:
    """Return every file below a directory, except below some of its children."""
    skipped, found = set(without), {}
    for path in root.rglob("*"):
        within = path.relative_to(root)
        if within.parts[0] not in skipped and path.is_file():
            try:
                found[str(within)] = path.read_bytes()
            except FileNotFoundError:
                continue  # Servers rewrite their files while we look.
    return found
