"""Keyed digests and key derivation: what may be stored beside a secret without giving it away."""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyvault.crypto.secret import Secret


class NoIndexKey(Exception):
    """The index key is not loaded, so no keyed digest can be made."""


class _Installed:
    index_key: Secret | None = None
    derived: dict[str, HMAC] = {}


def derive(key: bytes, purpose: str, length: int = 32) -> bytes:
    """Return a key of `length` bytes for one purpose (HKDF-SHA-256, RFC 5869).

    `key` must be uniformly random, so no salt is needed (section 3.1).
    """
    return HKDF(hashes.SHA256(), length, salt=None, info=purpose.encode()).derive(key)


def install(index_key: Secret) -> None:
    """Make `index_key` the root of every keyed digest of this process."""
    _Installed.index_key = index_key
    _Installed.derived = {}


def keyed(purpose: str, value: bytes | str) -> str:
    """Return HMAC-SHA-256 of `value` in hex, under a key that serves this purpose only.

    Equal values give equal digests, so it matches and counts without showing;
    without the index key nobody can test a guess. Raises NoIndexKey.
    """
    mac = _begun(purpose).copy()
    mac.update(value.encode() if isinstance(value, str) else value)
    return mac.finalize().hex()


def fingerprint(secret: Secret) -> str:
    """Return the keyed fingerprint by which a secret is recognised. Raises NoIndexKey."""
    return keyed("secret fingerprint v1", secret.reveal())


def equal(left: str, right: str) -> bool:
    """Compare two digests in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


def _begun(purpose: str) -> HMAC:
    """Return the digest of nothing yet under the key of a purpose: a copy of it is quickly finished."""
    if _Installed.index_key is None:
        raise NoIndexKey("The index key is not loaded.")
    if purpose not in _Installed.derived:
        key = derive(_Installed.index_key.reveal(), purpose)
        _Installed.derived[purpose] = HMAC(key, hashes.SHA256())
    return _Installed.derived[purpose]
