"""Signed notes: the published example of the format, and every way to be wrong."""

import base64
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvault.audit.note import BadNote, Head, Verifier, read, sign
from keyvault.crypto import signing

AT = datetime(2026, 11, 23, 22, 5, 1, 7, tzinfo=UTC)
HEAD = Head("kv.example/ledger", 1234, b"\x05" * 32, 9, AT)


@pytest.fixture
def verifier(signer):
    return Verifier(HEAD.origin, signer.public)


@pytest.fixture
def note(signer):
    return sign(HEAD.body(), name=HEAD.origin, signer=signer)


def test_the_key_id_is_that_of_the_published_example():
    # From the documentation of the format's first implementation, golang.org/x/mod/sumdb/note.
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

    assert str(Verifier.parse(text)) == text


def test_the_published_note_is_read():
    verifier = Verifier.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n"
    )
    signed = (
        text + "\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZ"
        "SNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    )

    assert read(signed, verifier) == text


def test_a_checkpoint_comes_back_as_it_was_signed(note, verifier):
    assert Head.parse(read(note, verifier)) == HEAD


def test_a_witness_may_add_a_line(note, verifier):
    assert read(f"{note}\u2014 witness.example AAAABBBB\n", verifier) == HEAD.body()


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_r50_no_flipped_bit_of_the_text_is_read(place, bit):

    raw = bytearray(_SIGNED.encode())
    place %= len(HEAD.body())
    raw[place] ^= 1 << bit

    with pytest.raises((BadNote, UnicodeDecodeError)):
        read(raw.decode(), _VERIFIER)


def test_r50_another_key_with_the_same_name_is_refused(note, tmp_path):
    other = _signer(tmp_path)

    with pytest.raises(BadNote, match="trusted key"):
        read(note, Verifier(HEAD.origin, other.public))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "kv.example/ledger\n1\n",
        HEAD.body().replace("1234", "01234"),
        HEAD.body().replace("1234", "+1234"),
        HEAD.body().replace("1234", "\u0661"),
        HEAD.body().replace("number 9", "nine"),
        HEAD.body().replace("time 2026", "time 20x6"),
        HEAD.body() + "more\n",
        HEAD.body().replace(base64.b64encode(HEAD.root).decode(), "AAAA"),
        HEAD.body().replace("number 9", "9"),
    ],
)
def test_a_checkpoint_of_another_form_is_refused(body):
    with pytest.raises(BadNote):
        Head.parse(body)


@pytest.mark.parametrize(
    "text", ["", "name", "name+00000000+AQ==", "name+c74f20a3+AAAA", "n+zz+!!", "+c74f20a3+AQAA"]
)
def test_a_verifier_key_of_another_form_is_refused(text):
    with pytest.raises(BadNote):
        Verifier.parse(text)


def test_text_without_signatures_is_refused(verifier):
    for text in ("", "\n", "hello\n", HEAD.body(), HEAD.body() + "\n\u2014 x"):
        with pytest.raises(BadNote):
            read(text, verifier)


def _signer(where):
    path = where / "other.key"
    path.write_text(signing.new_key())
    return signing.Ed25519Signer(path)


def _fixed():
    with tempfile.TemporaryDirectory() as where:
        signer = _signer(Path(where))
    return sign(HEAD.body(), name=HEAD.origin, signer=signer), Verifier(HEAD.origin, signer.public)


_SIGNED, _VERIFIER = _fixed()
