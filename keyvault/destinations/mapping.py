"""Which part of a version goes under which name at a place."""

from __future__ import annotations

import re
from collections.abc import Mapping

from keyvault.destinations.base import Misconfigured, Version

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_PART = re.compile(r"[A-Za-z0-9_.-]{1,100}")


def parse(text: str, name: re.Pattern[str] = VARIABLE) -> dict[str, str]:
    """Read `value=OPENAI_API_KEY username=DB_USER`, separated by spaces, lines or commas.

    Returns names by part. Raises Misconfigured where a name does not match the
    pattern `name`, where one is there twice, and where there is none at all.
    """
    found: dict[str, str] = {}
    for word in text.replace(",", " ").split():
        part, equals, target = word.partition("=")
        if not equals or not _PART.fullmatch(part) or not name.fullmatch(target):
            raise Misconfigured("Write each variable as part=NAME, such as value=API_KEY.")
        if part in found or target in found.values():
            raise Misconfigured("Each part and each variable may be there only once.")
        found[part] = target
    if not found:
        raise Misconfigured("Name at least one variable, such as value=API_KEY.")
    return found


def shown(version: Version, names: Mapping[str, str]) -> dict[str, str]:
    """Return the parts of a version, in clear, by their names at the place.

    Raises Misconfigured where the version lacks a part or a part is no text.
    """
    found = {}
    for part, name in names.items():
        if part in version.fields:
            found[name] = _text(version.fields[part].reveal(), part)
        elif part in version.public:
            found[name] = version.public[part]
        else:
            raise Misconfigured(f"The key has no part named {part}.")
    return found


def every_part(version: Version) -> dict[str, str]:
    """Return each part under its own name; a secret part wins over a public one."""
    return {part: part for part in (*version.public, *version.fields)}


def _text(value: bytes, part: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        # The decoder's own error would carry the value.
        raise Misconfigured(f"The part {part} is no text in UTF-8.") from None
