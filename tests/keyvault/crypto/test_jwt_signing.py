"""Tokens that we sign for a service with the key that it gave us."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwk

from keyvault.crypto.jwt import BadJwt, PublicKey, parse
from keyvault.crypto.jwt_signing import BadSigningKey, sign_rs256
from keyvault.crypto.secret import Secret

KEY = jwk.generate_key("RSA", 2048)
PEM = KEY.as_pem(private=True)
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024).private_bytes(
    Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
)
CLAIMS = {"iss": "app", "iat": 1_700_000_000, "exp": 1_700_000_600}


def public(key):
    return PublicKey.of(key.as_dict(private=False))


@pytest.mark.parametrize(
    "pem",
    [PEM, PEM.replace(b"\n", b"\r\n"), PEM.replace(b"\n", b" "), PEM.replace(b"\n", b"")],
    ids=["as issued", "from Windows", "in one line", "without breaks"],
)
def test_what_is_signed_is_verified_by_the_public_half(pem):
    token = parse(sign_rs256(Secret.of(pem), CLAIMS).reveal().decode())
    public(KEY).verify(token)
    assert dict(token.claims) == CLAIMS
    assert token.algorithm == "RS256"
    with pytest.raises(BadJwt):
        public(jwk.generate_key("RSA", 2048)).verify(token)


@pytest.mark.filterwarnings("ignore:Key size should be")
@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"not a key",
        KEY.as_pem(private=False),
        PEM[:-40],
        PEM.replace(b"MII", b"AAA", 1),
        jwk.generate_key("EC", "P-256").as_pem(private=True),
        SHORT,
        PEM.replace(b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"),
        PEM + PEM,
    ],
    ids=["none", "text", "public", "cut", "broken", "curve", "short", "encrypted", "two"],
)
def test_another_key_is_refused_and_nothing_of_it_is_told(pem):
    with pytest.raises(BadSigningKey) as failure:
        sign_rs256(Secret.of(pem), CLAIMS)
    assert failure.value.__cause__ is None
    words = [word for word in pem.decode().split() if len(word) > 30]
    assert not [word for word in words if word in str(failure.value)]
