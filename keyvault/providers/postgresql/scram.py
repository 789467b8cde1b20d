"""SCRAM-SHA-256 verifiers, so that a password never travels to the server. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac

_PRINTABLE = range(0x21, 0x7F)
ITERATIONS = 4096  # PostgreSQL's own default (scram_iterations); the password has 256 bits.


def verifier(password: bytes, *, salt: bytes, iterations: int = ITERATIONS) -> str:
    """Return what PostgreSQL stores for a password (RFC 5802 section 3, RFC 7677).

    `password` must be printable ASCII, for which SASLprep (RFC 4013) is the
    identity; ours are. Raises ValueError on any other.
    """
    if not password or not all(byte in _PRINTABLE for byte in password):
        raise ValueError("A SCRAM verifier is made here for printable ASCII passwords only.")
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    return f"SCRAM-SHA-256${iterations}:{_b64(salt)}${_b64(stored_key)}:{_b64(server_key)}"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
