"""Normal forms of user names and e-mail addresses: pure, so that every door compares alike."""

from __future__ import annotations

import re
import unicodedata

USERNAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
TEAM = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)


class BadName(ValueError):
    """A user or team name holds something else than the few characters that it may."""


def normalise(text: str) -> str:
    """Return the form under which names are compared: NFKC, casefold, strip.

    Case folding may leave the normal form again, hence the second pass
    (Unicode Standard Annex 15, section 7).
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def username(text: str) -> str:
    """Return a user name in its one stored form. Raises BadName."""
    name = normalise(text)
    if not USERNAME.fullmatch(name):
        raise BadName(
            "Use 1 to 63 small letters, digits, dots, dashes or underscores, "
            "beginning with a letter or digit."
        )
    return name


def team(text: str) -> str:
    """Return a team's name in its one stored form. Raises BadName."""
    name = normalise(text)
    if not TEAM.fullmatch(name):
        raise BadName("Use 1 to 63 small letters, digits, dashes or underscores.")
    return name


def email_key(address: str) -> str:
    """Return what two addresses of the same mailbox share: no case, no +tag.

    Two accounts with one key are linked: they have one vote between them.
    """
    local, at, domain = normalise(address).rpartition("@")
    return f"{local.split('+', 1)[0]}{at}{domain}"
