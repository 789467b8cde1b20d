"""Names that mean one thing: how the name of a key and an allowed host are normalised (pure).

A name is normalised once, here, at the door: compatibility forms folded, case
folded, white space stripped. What is left must be plain, so that two names
that look alike are one name, and a name is safe in a path, a role or a log.
"""

from __future__ import annotations

import re
import unicodedata

NAME_MAX = 48
NAME_RULE = (
    "Use 3 to 48 characters: small letters, digits and single hyphens, starting with a letter, "
    "for example payments-ledger-reader."
)
NAME_PATTERN = r"^[a-z](?:-?[a-z0-9]){2,47}$"
HOST_MAX = 253
HOST_RULE = "Write a host name or an address, without a scheme or path, for example db.example.com."

_NAME = re.compile(NAME_PATTERN)
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_HOST = re.compile(rf"^(?:\*\.)?{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?$")
_MARK = re.compile(r"^[a-z0-9][a-z0-9._-]{0,39}$")
MARK_RULE = "A label has 1 to 40 small letters, digits, dots, hyphens or underscores."


class BadName(ValueError):
    """A name, host or label cannot be used; the message says the mend."""


def fold(text: str) -> str:
    """Return `text` in the one form in which names are compared (NFKC, casefold, strip)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded).strip()


def key_name(text: str) -> str:
    """Return the name of a key in its one form. Raises BadName: not plain after folding."""
    name = fold(text)
    if len(name) > NAME_MAX or not _NAME.fullmatch(name):
        raise BadName(NAME_RULE)
    return name


def host(text: str) -> str:
    """Return an allowed host in its one form, with an optional port. Raises BadName.

    A leading "*." stands for every host below a domain; nothing else is a wildcard.
    """
    name = fold(text).removesuffix(".")
    if len(name) > HOST_MAX or not _HOST.fullmatch(name):
        raise BadName(HOST_RULE)
    return name


def hosts(text: str) -> tuple[str, ...]:
    """Return the allowed hosts in a text, one a line or between commas, sorted and once each.

    Raises BadName: names the first that cannot be used.
    """
    found = set()
    for part in re.split(r"[\s,]+", text.strip()):
        if part:
            found.add(host(part))
    return tuple(sorted(found))


def labels(text: str) -> tuple[str, ...]:
    """Return the labels in a text, sorted and once each. Raises BadName."""
    found = {fold(part) for part in re.split(r"[\s,]+", text.strip()) if part}
    if not all(_MARK.fullmatch(label) for label in found):
        raise BadName(MARK_RULE)
    return tuple(sorted(found))
