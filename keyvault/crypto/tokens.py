"""Bearer tokens that scanners recognise and that the database cannot give away.

    kvt_<public id>_<secret><checksum>

The public id finds the row; only a keyed digest of the whole token is stored.
The checksum lets a scanner and a form tell a typing error from a wrong token
without asking the server; it protects nothing.
"""

from __future__ import annotations

import secrets
import string
import zlib
from dataclasses import dataclass

from keyvault.crypto import digest
from keyvault.crypto.secret import Secret

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_CHARS = 12
_SECRET_CHARS = 43  # 43 characters of 62 carry 256 bits.
_SUM_CHARS = 6


class Malformed(ValueError):
    """The text is no token of this product, or was typed wrongly. Carries nothing of it."""


@dataclass(frozen=True, slots=True)
class Token:
    """A new token: `text` is shown once, `stored` goes to the database."""

    public_id: str
    text: Secret
    stored: str


def issue(prefix: str = "kvt") -> Token:
    """Return a new token with 256 random bits. Raises digest.NoIndexKey."""
    public_id = _random(_ID_CHARS)
    body = f"{prefix}_{public_id}_{_random(_SECRET_CHARS)}"
    text = body + _checksum(body)
    return Token(public_id, Secret.of(text), _stored(text))


def public_id(text: str, prefix: str = "kvt") -> str:
    """Return the public id of a token. Raises Malformed."""
    found, _, rest = text.partition("_")
    ident, _, tail = rest.partition("_")
    lengths = (len(ident), len(tail)) == (_ID_CHARS, _SECRET_CHARS + _SUM_CHARS)
    if found != prefix or not lengths or not set(ident + tail) <= set(_ALPHABET):
        raise Malformed("this is not a token")
    if _checksum(text[:-_SUM_CHARS]) != text[-_SUM_CHARS:]:
        raise Malformed("the token is mistyped")
    return ident


def claimed_id(text: str, prefix: str = "kvt") -> str:
    """Return what stands where a token has its public id, unchecked: `matches` proves it."""
    return text[len(prefix) + 1 : len(prefix) + 1 + _ID_CHARS]


def matches(text: str, stored: str) -> bool:
    """Compare a presented token with a stored digest in constant time."""
    return digest.equal(_stored(text), stored)


def _stored(text: str) -> str:
    return digest.keyed("token v1", text)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    value, out = zlib.crc32(body.encode()), ""
    for _ in range(_SUM_CHARS):
        value, index = divmod(value, len(_ALPHABET))
        out = _ALPHABET[index] + out
    return out
