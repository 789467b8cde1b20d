"""SCRAM verifiers against the published example."""

from __future__ import annotations

import base64
import hmac

import pytest

from keyvault.providers.postgresql.scram import verifier


def test_the_verifier_gives_the_server_signature_of_rfc_7677():
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    made = verifier(b"pencil", salt=salt)
    scheme, rest = made.split("$", 1)
    assert scheme == "SCRAM-SHA-256"
    assert rest.startswith("4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    server_key = base64.b64decode(made.rpartition(":")[2])
    message = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    signature = hmac.digest(server_key, message, "sha256")
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize("password", [b"", "pässword".encode(), b"with space", b"tab\t"])
def test_a_password_that_would_need_saslprep_is_refused(password):
    with pytest.raises(ValueError, match="printable ASCII"):
        verifier(password, salt=b"0" * 16)
