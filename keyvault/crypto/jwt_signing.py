"""Signed tokens of our own by RS256, for a service that gave us its private key (RFC 7515)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from joserfc import errors, jwk, jws

from keyvault.crypto.jwt import RSA_LEAST_BITS, RSA_MOST_BITS
from keyvault.crypto.secret import Secret

_PEM = re.compile(
    rb"\s*-----BEGIN (?P<kind>(?:RSA )?PRIVATE KEY)-----(?P<body>[A-Za-z0-9+/=\s]+)"
    rb"-----END (?P=kind)-----\s*"
)
_LINE = 64


class BadSigningKey(ValueError):
    """A private key cannot be used; the message says why and carries nothing of it."""


def sign_rs256(private_key: Secret, claims: Mapping[str, str | int]) -> Secret:
    """Return a JWT in compact form that bears `claims`.

    private_key: RSA in PEM, PKCS #1 or #8, not encrypted; lines may have been lost
    in a form of one line. Raises BadSigningKey.
    """
    key = _key(private_key.reveal())
    payload = json.dumps(dict(claims)).encode()
    header = {"alg": "RS256", "typ": "JWT"}
    return Secret.of(jws.serialize_compact(header, payload, key, algorithms=["RS256"]))


def _key(pem: bytes) -> jwk.RSAKey:
    found = _PEM.fullmatch(pem)
    if found is None:
        raise BadSigningKey("The private key must be RSA in PEM, from its BEGIN to its END line.")
    body = b"".join(found["body"].split())
    lines = [body[at : at + _LINE] for at in range(0, len(body), _LINE)]
    kind = found["kind"]
    text = b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (kind, b"\n".join(lines), kind)
    try:
        key = jwk.RSAKey.import_key(text)
        bits = key.get_op_key("sign").key_size
    except (errors.JoseError, ValueError, TypeError):
        raise BadSigningKey("The private key is not a valid RSA key.") from None
    if not RSA_LEAST_BITS <= bits <= RSA_MOST_BITS:
        raise BadSigningKey(f"An RSA key must have {RSA_LEAST_BITS} to {RSA_MOST_BITS} bits.")
    return key
