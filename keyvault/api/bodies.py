"""Read a body as one plain JSON object, within bounds that are checked before it is parsed (R43).

A body is small, shallow and unambiguous: no duplicate names, no number that
two programs would read differently, no character that cannot be stored.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyvault.api.problems import Problem

if TYPE_CHECKING:
    from django.http import HttpRequest

JSON = Any
MOST_DEPTH = 12
MOST_DIGITS = 18
_LENGTH_DIGITS = 12
MEDIA_TYPE = "application/json"
# Possessive, and taking an unfinished string to its end: linear on whatever is sent.
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a body may be, and how many members all its objects and arrays may have."""

    size: int
    members: int


USUAL = Bounds(size=65_536, members=1_000)
# A thousand reports of use, each with all it can say.
BATCH = Bounds(size=262_144, members=12_000)
# Two hundred keys with their values; certificates are long.
VALUES = Bounds(size=900_000, members=8_000)


def read(request: HttpRequest, bounds: Bounds = USUAL) -> dict[str, JSON] | None:
    """Return the object in the body, or None without a body. Raises Problem.

    The size is judged by what the caller says before a byte is read; the
    server never hands over more than that.
    """
    size = request.META.get("CONTENT_LENGTH") or "0"
    if not (size.isascii() and size.isdigit()):
        raise Problem("bad-request", "Content-Length is not a number.")
    if len(size) > _LENGTH_DIGITS or int(size) > bounds.size:
        raise _too_large(bounds)
    if not request.body:
        return None
    if request.content_type != MEDIA_TYPE:
        raise Problem("unsupported-media-type")
    return parse(request.body, bounds)


def parse(body: bytes, bounds: Bounds = USUAL) -> dict[str, JSON]:
    """Return the one JSON object in a text (RFC 8259, and I-JSON: RFC 7493). Raises Problem."""
    if len(body) > bounds.size:
        raise _too_large(bounds)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Problem("bad-body", "The body is not UTF-8.") from None
    _bound(text, bounds)
    try:
        found = json.loads(
            text,
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_no_fraction,
            parse_constant=_no_fraction,
        )
    except (ValueError, RecursionError) as error:
        raise Problem("bad-body", "The body is not JSON.") from error
    if not isinstance(found, dict):
        raise Problem("bad-body", "The body is not a JSON object.")
    _storable(found)
    return found


def _too_large(bounds: Bounds) -> Problem:
    return Problem("too-large", f"A body has at most {bounds.size:,} bytes here.")


def _bound(text: str, bounds: Bounds) -> None:
    """Refuse by counting, so that no parser ever sees what is too deep or too wide."""
    bare = _STRINGS.sub("", text)
    depth = deepest = 0
    for mark in re.findall(r"[\[\]{}]", bare):
        depth += 1 if mark in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > MOST_DEPTH:
        raise Problem("bad-body", f"The body is nested deeper than {MOST_DEPTH} levels.")
    if bare.count(",") + bare.count(":") > bounds.members:
        raise Problem("bad-body", f"The body has more than {bounds.members:,} members.")


def _members(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem("bad-body", "A name stands twice in one object.")
    return found


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise Problem("bad-body", f"A number has more than {MOST_DIGITS} digits.")
    return int(text)


def _no_fraction(_text: str) -> float:
    raise Problem("bad-body", "Numbers are whole here.")


def _storable(value: JSON) -> None:
    """Refuse what a database column cannot hold: NUL and half a surrogate pair."""
    if isinstance(value, str) and _UNSTORABLE.search(value):
        raise Problem("bad-body", "A text holds a character that cannot be stored.")
    if isinstance(value, dict):
        for name, part in value.items():
            _storable(name)
            _storable(part)
    if isinstance(value, list):
        for part in value:
            _storable(part)
