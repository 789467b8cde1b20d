"""Ed25519 signatures (RFC 8032) of receipts and checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

_KEY_BYTES = 32


class BadKey(Exception):
    """A signing key is missing or is not one. The message names the file, never the key."""


class BadSignature(Exception):
    """The signature does not belong to this message and key."""


class Ed25519Signer:
    """Sign with the private key in a file of 32 raw bytes in hex.

    `public` is the raw public key of 32 bytes; `key_id` is the first 16 hex
    digits of its SHA-256, and names it in receipts.
    """

    def __init__(self, path: Path) -> None:
        """Read the key. Raises BadKey."""
        try:
            raw = bytes.fromhex(path.read_text(encoding="ascii"))
            self._private = Ed25519PrivateKey.from_private_bytes(raw)
        except OSError as error:
            raise BadKey(f"The signing key {path} cannot be read: {error.strerror}.") from None
        except ValueError:
            raise BadKey(f"The file {path} holds no Ed25519 key.") from None
        self.public = self._private.public_key().public_bytes_raw()
        self.key_id = key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return self._private.sign(message)


def key_id(public: bytes) -> str:
    """Return the short name of a public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Raise BadSignature unless `signature` over `message` was made by the owner of `public`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise BadSignature("the signature does not match") from None


def new_key() -> str:
    """Return a new private key in the form that its file holds."""
    return Ed25519PrivateKey.generate().private_bytes_raw().hex()
