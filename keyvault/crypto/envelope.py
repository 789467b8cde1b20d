"""Seal one value for one place: a fresh data key per seal, wrapped by a key-encryption key.

    magic | format | algorithm | kek id | wrapped data key | nonce | ciphertext
      3       1          1         16       12 + 32 + 16      12     n + 16

Both layers authenticate the same context (kind, id, number, field), so that a
blob copied to another row, field or version never opens there. AES-256-GCM
with random 96-bit nonces (NIST SP 800-38D section 8.2.2): the data key is used
once, and the budget of the keyring bounds the uses of the key-encryption key.
"""

from __future__ import annotations

import secrets
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyvault.crypto.secret import Secret

if TYPE_CHECKING:
    from keyvault.crypto.keyring import Keyring

MAGIC = b"kvs"
FORMAT = 1
AES_256_GCM = 1
KEK_ID_BYTES = 16
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES
_HEADER = MAGIC + bytes((FORMAT, AES_256_GCM))
_LAYOUT = Struct(f"{len(_HEADER)}s {KEK_ID_BYTES}s {WRAPPED_BYTES}s {NONCE_BYTES}s")


class Refused(Exception):
    """The blob is damaged, was sealed for another place or by another key.

    Authenticated encryption cannot tell these apart, and the message must not
    try: it carries nothing of the blob.
    """


class Context(NamedTuple):
    """The place a value belongs to. `number` is a version number, or 0.

    Holds ids and field names only: a remote key-encryption key may log it.
    """

    kind: str
    id: UUID | int
    number: int
    field: str


def seal(secret: Secret, *, context: Context, ring: Keyring) -> bytes:
    """Return a blob that opens only under `context`. Raises keyring.Exhausted."""
    kek_id = ring.active_id
    bound = bind(context, kek_id)
    data_key = bytearray(secrets.token_bytes(KEY_BYTES))
    try:
        wrapped = ring.wrap(data_key, bound)
        nonce = secrets.token_bytes(NONCE_BYTES)
        ciphertext = AESGCM(data_key).encrypt(nonce, secret.reveal(), bound)
    finally:
        data_key[:] = bytes(KEY_BYTES)
    return _HEADER + kek_id + wrapped + nonce + ciphertext


def open(  # noqa: A001 - always called qualified, as envelope.open.
    blob: bytes, *, context: Context, ring: Keyring
) -> Secret:
    """Return the secret. Raises Refused, and NoKek when its key-encryption key is absent."""
    return Secret.adopt(unseal(bytes(blob), context=context, ring=ring))


def unseal(blob: bytes, *, context: Context, ring: Keyring) -> bytearray:
    """Return the plain bytes in a buffer of the caller's, who zeroes it. Raises as `open`."""
    kek_id, wrapped, nonce, ciphertext = _split(blob)
    bound = bind(context, kek_id)
    data_key = ring.unwrap(kek_id, wrapped, bound)
    plain = bytearray(len(ciphertext) - TAG_BYTES)
    try:
        AESGCM(data_key).decrypt_into(nonce, ciphertext, bound, plain)
    except InvalidTag:
        plain[:] = bytes(len(plain))
        raise Refused("a sealed value does not open here") from None
    finally:
        data_key[:] = bytes(KEY_BYTES)
    return plain


def kek_id_of(blob: bytes) -> bytes:
    """Return the id of the key that wrapped this blob's data key. Raises Refused."""
    return _split(bytes(blob))[0]


def bind(context: Context, kek_id: bytes) -> bytes:
    """Return the canonical form of a context that both layers authenticate.

    Every part carries its length in four bytes, so that no two contexts share
    one encoding.
    """
    kind, ident, number, field = context
    return _front(kind) + _part(str(ident).encode()) + _back(number, field, kek_id)


def _part(content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + content


@lru_cache(maxsize=32)
def _front(kind: str) -> bytes:
    """Return what stands before the id. Kinds are few, and asked for at every read."""
    return _part(_HEADER) + _part(kind.encode())


@lru_cache(maxsize=512)
def _back(number: int, field: str, kek_id: bytes) -> bytes:
    """Return what stands behind the id: few for many ids."""
    return _part(str(number).encode()) + _part(field.encode()) + _part(kek_id)


def _split(blob: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    if len(blob) < _LAYOUT.size + TAG_BYTES or not blob.startswith(_HEADER):
        raise Refused("a sealed value has an unknown form")
    _, kek_id, wrapped, nonce = _LAYOUT.unpack_from(blob)
    return kek_id, wrapped, nonce, blob[_LAYOUT.size :]
