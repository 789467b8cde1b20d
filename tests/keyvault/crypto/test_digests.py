"""Digests, tokens and signatures."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvault.crypto import digest, signing, tokens
from keyvault.crypto.secret import Secret


@pytest.fixture(autouse=True)
def _index_key():
    before = digest._Installed.index_key
    digest.install(Secret(bytes(32)))
    yield
    digest._Installed.index_key, digest._Installed.derived = before, {}


def test_derive_matches_rfc_5869_without_salt():
    """RFC 5869 appendix A.3, whose info is empty."""
    found = digest.derive(b"\x0b" * 22, "", 42)

    assert found.hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    )


def test_keyed_is_an_hmac_under_a_key_of_its_purpose():
    expected = hmac.new(digest.derive(bytes(32), "a"), b"v", hashlib.sha256).hexdigest()

    assert digest.keyed("a", "v") == digest.keyed("a", b"v") == expected
    assert digest.keyed("b", "v") != expected


def test_keyed_changes_with_the_index_key():
    before = digest.keyed("a", "v")
    digest.install(Secret(b"\1" * 32))

    assert digest.keyed("a", "v") != before


def test_r5_keyed_refuses_without_the_index_key():
    digest._Installed.index_key, digest._Installed.derived = None, {}

    with pytest.raises(digest.NoIndexKey):
        digest.keyed("a", "v")


def test_a_token_is_found_by_its_id_and_matches_its_stored_digest():
    token = tokens.issue()
    text = token.text.reveal().decode()

    assert tokens.public_id(text) == token.public_id
    assert tokens.matches(text, token.stored)
    assert not tokens.matches(tokens.issue().text.reveal().decode(), token.stored)


def test_r1_what_is_stored_of_a_token_holds_no_part_of_its_secret():
    token = tokens.issue()
    secret = token.text.reveal().decode().rsplit("_", 1)[1]

    assert secret[:8] not in token.stored


@given(at=st.integers(0, 65), sign=st.sampled_from("aB3-_ é"))
def test_a_mistyped_token_is_told_from_a_wrong_one(at, sign):
    text = "kvt_0123456789AB_" + "q" * 43
    text += tokens._checksum(text)
    wrong = text[:at] + sign + text[at + 1 :]

    if wrong != text:
        with pytest.raises(tokens.Malformed):
            tokens.public_id(wrong)


@pytest.mark.parametrize("text", ["", "kvt_", "kvt__", "kvx_a_b", "kvt_" + "a" * 500])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(tokens.Malformed):
        tokens.public_id(text)


def test_verify_refuses_another_message_key_or_signature(tmp_path):
    path = tmp_path / "key"
    path.write_text(signing.new_key())
    signer = signing.Ed25519Signer(path)
    good = signer.sign(b"message")

    signing.verify(signer.public, good, b"message")
    for public, signature, message in [
        (signer.public, good, b"massage"),
        (bytes(32), good, b"message"),
        (signer.public, bytes(64), b"message"),
        (signer.public, b"", b"message"),
        (b"short", good, b"message"),
    ]:
        with pytest.raises(signing.BadSignature):
            signing.verify(public, signature, message)
