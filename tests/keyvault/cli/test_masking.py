"""No value passes the masker, in any form and in any chunks; nothing else is touched."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from keyvault.cli.masking import MASK, SHORTEST, Masker

# A small alphabet makes values that overlap each other and themselves.
VALUES = st.binary(min_size=SHORTEST, max_size=12) | st.text("ab", min_size=4, max_size=9).map(
    str.encode
)


def in_chunks(masker: Masker, data: bytes, cuts: list[int]) -> bytes:
    """Return what passes when the data comes cut at these places."""
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    chunks = [data[start:end] for start, end in pairwise(ends)]
    return b"".join([*(masker.feed(chunk) for chunk in chunks), masker.end()])


def forms(value: bytes) -> list[bytes]:
    """Return the texts under which a value may be printed."""
    found = [
        value,
        base64.b64encode(value),
        base64.urlsafe_b64encode(value),
        quote(value, safe="").encode(),
        quote_plus(value).encode(),
        value.hex().encode(),
    ]
    with suppress(UnicodeDecodeError):
        found.append(json.dumps(value.decode())[1:-1].encode())
    return found


@given(data=st.data(), value=VALUES)
def test_no_form_of_a_value_passes_in_any_chunks(data, value):
    # A value with an asterisk could be put together from a mask and what stands beside it.
    assume(b"*" not in value)
    shown = data.draw(st.lists(st.sampled_from(forms(value)) | st.binary(max_size=6), max_size=8))
    cuts = data.draw(st.lists(st.integers(0, 200), max_size=30))

    passed = in_chunks(Masker([value]), b"".join(shown), cuts)

    assert [form for form in forms(value) if form in passed] == []


@given(data=st.data(), values=st.lists(VALUES, min_size=1, max_size=4))
@example(data=None, values=[b"aaaa"])
def test_chunks_make_no_difference(data, values):
    if data is None:
        text, cuts = b"a" * 50, list(range(50))
    else:
        parts = st.sampled_from([form for value in values for form in forms(value)])
        text = b"".join(data.draw(st.lists(parts | st.binary(max_size=5), max_size=8)))
        cuts = data.draw(st.lists(st.integers(0, 300), max_size=40))

    assert in_chunks(Masker(values), text, cuts) == in_chunks(Masker(values), text, [])


@given(text=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=20))
def test_other_bytes_pass_unchanged(text, cuts):
    value = b"\x00never\xffthere\x01"

    assert in_chunks(Masker([value]), text, cuts) == text


@given(
    value=st.binary(min_size=8, max_size=40),
    before=st.binary(max_size=7),
    after=st.binary(max_size=7),
)
def test_a_value_inside_a_longer_base64_text_is_masked(value, before, after):
    text = base64.b64encode(before + value + after)

    assert MASK in in_chunks(Masker([value]), text, [])


def test_a_line_leaves_when_it_is_complete():
    masker = Masker(["sk-secret"])

    assert masker.feed(b"ready\n") == b"ready\n"
    assert masker.feed(b"key sk-") == b"key "
    assert masker.feed(b"nothing\n") == b"sk-nothing\n"


def test_the_tail_of_a_longer_value_is_masked_with_its_beginning():
    values = ["hunter2", "hunter2-production"]

    assert in_chunks(Masker(values), b"is hunter2-production!", list(range(22))) == b"is ***!"


def test_a_value_that_only_began_is_shown_at_the_end():
    masker = Masker(["sk-secret"])

    assert masker.feed(b"sk-sec") + masker.end() == b"sk-sec"


def test_further_values_join_those_before():
    masker = Masker(["sk-first"])
    masker.also(["sk-second"])

    assert masker.feed(b"sk-first sk-second\n") == b"*** ***\n"


def test_each_line_of_a_value_with_several_is_masked():
    masker = Masker(["-----BEGIN KEY-----\nMIIEvQIBADANBg\nshort\n"])

    assert masker.feed(b"    MIIEvQIBADANBg\nshort\n") == b"    ***\nshort\n"


@pytest.mark.parametrize("value", ["", "a", "abc"])
def test_a_value_of_three_letters_or_less_is_left_alone(value):
    assert in_chunks(Masker([value]), b"abc abc", []) == b"abc abc"


def test_an_endless_run_of_a_value_does_not_pile_up():
    masker = Masker(["aaaa"])

    for _ in range(1000):
        masker.feed(b"a" * 100)

    assert len(masker._rest) < 10
