"""Codes that a person types once: recovery, invitation and set-up. Pure.

A code carries 100 random bits, so that a plain digest of it cannot be
reversed by guessing and needs no slow hash.
"""

from __future__ import annotations

import hashlib
import secrets

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U.
LENGTH = 20
GROUP = 5
_LOOKALIKES = str.maketrans({"I": "1", "L": "1", "O": "0", "U": "V"})


def new() -> str:
    """Return a fresh code in four groups of five, such as `7QK2M-...`."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return "-".join(letters[start : start + GROUP] for start in range(0, LENGTH, GROUP))


def normalise(typed: str) -> str:
    """Return what was meant: capitals, no separators, look-alikes read as their twins."""
    kept = "".join(letter for letter in typed[:100].upper() if letter.isascii())
    return "".join(letter for letter in kept.translate(_LOOKALIKES) if letter in ALPHABET)


def digest(code: str, *, purpose: str, owner: str) -> str:
    """Return the SHA-256 (hex) under which a code is stored.

    `purpose` and `owner` keep a code of one kind or person from matching another's.
    """
    message = "\x00".join(("keyvault.code", purpose, owner, normalise(code)))
    return hashlib.sha256(message.encode()).hexdigest()
