"""Signatures by the Standard Webhooks specification, symmetric scheme (v1, HMAC-SHA-256). Pure.

A message is signed as `id.timestamp.body`. While a secret is being changed the
header holds one signature for each; a receiver accepts it when any is right.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE_S = 300
_PREFIX = b"whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64


class BadSecret(ValueError):
    """The signing secret is not 24 to 64 bytes in base64 after `whsec_`. Its text is not in here."""


class BadSignature(ValueError):
    """A header is missing, the time is too far off, or no signature fits."""


def sign(secrets: Sequence[Secret], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers; `timestamp` in whole seconds since 1970. Raises BadSecret."""
    found = [_signature(secret, message_id, timestamp, body) for secret in secrets]
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: " ".join(found)}


def require_signed(
    secrets: Sequence[Secret], headers: Mapping[str, str], body: bytes, *, now: float
) -> str:
    """Return the id of a message that one of the secrets has signed within five minutes.

    Header names are lower-case, `now` in seconds since 1970. Raises BadSignature, BadSecret.
    """
    message_id, timestamp = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not message_id or not (timestamp.isascii() and timestamp.isdigit()):
        raise BadSignature("The message has no id or no time.")
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise BadSignature("The time of the message is too far from ours.")
    given = headers.get(SIGNATURE, "").encode().split()
    for secret in secrets:
        right = _signature(secret, message_id, int(timestamp), body).encode()
        if any(hmac.compare_digest(right, one) for one in given):
            return message_id
    raise BadSignature("No signature of the message fits.")


def _signature(secret: Secret, message_id: str, timestamp: int, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()


def _key(secret: Secret) -> bytes:
    text = secret.reveal().strip().removeprefix(_PREFIX)
    try:
        key = b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise BadSecret("The signing secret is not base64.") from None
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise BadSecret(f"The signing secret must have {_LEAST_BYTES} to {_MOST_BYTES} bytes.")
    return key
