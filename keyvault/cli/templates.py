"""Texts with `${kv:NAME}` or `${kv:NAME.FIELD}` in them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from keyvault.cli.codes import Exit
from keyvault.launcher.sentences import Stop

# A doubled dollar sign stands for itself, so that the syntax can be written about.
_PLACE = re.compile(r"\$(?P<plain>\$)?\{kv:(?P<what>[^}\n]*)(?P<end>\}?)")
_WHAT = re.compile(r"(?P<name>[a-z][a-z0-9-]*)(?:\.(?P<field>\w+))?")


def names(text: str) -> list[str]:
    """Return the keys that a template needs, each once, in order. Raises Stop."""
    return list(dict.fromkeys(name for name, _ in _places(text)))


def render(text: str, value: Callable[[str, str | None], str]) -> str:
    """Return the text with every place filled by `value(name, field)`. Raises Stop."""
    _places(text)

    def fill(found: re.Match[str]) -> str:
        if found["plain"]:
            return found.group()[1:]
        what = _WHAT.fullmatch(found["what"])
        return value(what["name"], what["field"]) if what else found.group()

    return _PLACE.sub(fill, text)


def _places(text: str) -> list[tuple[str, str | None]]:
    places = []
    for found in _PLACE.finditer(text):
        if found["plain"]:
            continue
        what = _WHAT.fullmatch(found["what"])
        if what is None or not found["end"]:
            line = text.count("\n", 0, found.start()) + 1
            message = (
                f"Line {line}: write ${{kv:NAME}} or ${{kv:NAME.FIELD}}, or $${{kv: for itself."
            )
            raise Stop(message, code=Exit.USAGE)
        places.append((what["name"], what["field"]))
    return places
