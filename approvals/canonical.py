"""One byte string for one JSON value, so that a digest or a signature means one thing.

Object members are sorted by name, there is no white space, text is UTF-8 and
is never normalised: what a person signed is what was stored. Floats are
refused because two encoders may print one float differently.
"""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 64


class NotCanonical(ValueError):
    """The value has no canonical form: a float, a foreign type, or nested too deep."""


def dumps(obj: Any) -> bytes:  # noqa: ANN401 - any JSON value; a recursive alias defeats the Django stubs.
    """Return the canonical bytes of a JSON value.

    Raises NotCanonical on floats, on bytes and other foreign types, on member
    names that are not text, on lone surrogates and beyond 64 levels.
    """
    _check(obj, MAX_DEPTH)
    try:
        return json.dumps(
            obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except UnicodeEncodeError as error:
        raise NotCanonical("a lone surrogate has no UTF-8 form") from error


def _check(value: object, depth: int) -> None:
    if depth == 0:
        raise NotCanonical(f"nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, str | int):
        return
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise NotCanonical("member names must be text")
        parts: list[object] = list(value.values())
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        raise NotCanonical(f"{type(value).__name__} has no canonical form")
    for part in parts:
        _check(part, depth - 1)
