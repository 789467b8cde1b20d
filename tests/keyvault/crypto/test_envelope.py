"""A sealed value opens in its own place, whole, or not at all."""

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvault.crypto import envelope
from keyvault.crypto.envelope import Context, Refused
from keyvault.crypto.keyring import Exhausted, NoKek
from keyvault.crypto.secret import Secret
from tests.keyvault.crypto.rings import ring

RAW = bytes(range(32))
RING = ring(RAW)
PLACE = Context("key", UUID(int=7), 3, "password")
VALUE = b"canary-of-the-envelope"

GOLDEN = """\
6b767301019ac2c400de045b9ac9e2e2db3478f4baee2fed8e9ea1794a33afca3e2626b721979837
7a66bbc51a62d7ea37aeb5f647a68aaccd1b9badc4faf9701701d603003608356e066d383b080c99
777f42e15f01501a7817e8f8e59259049fa2f2fe2c5e137b768ea9d1d58be89e9e3c4faa2701562f
c853c5f139b9ed62080c2e
"""

contexts = st.builds(
    Context,
    kind=st.text(max_size=12),
    id=st.uuids(),
    number=st.integers(0, 1 << 31),
    field=st.text(max_size=12),
)


@given(value=st.binary(max_size=300), place=contexts)
def test_a_sealed_value_opens_in_its_place(value, place):
    blob = envelope.seal(Secret(value), context=place, ring=RING)

    assert envelope.open(blob, context=place, ring=RING).reveal() == value


@settings(max_examples=20, deadline=None)
@given(value=st.binary(min_size=1, max_size=40), mask=st.integers(1, 255))
def test_r3_every_flipped_byte_is_refused(value, mask):
    blob = envelope.seal(Secret(value), context=PLACE, ring=RING)

    for at in range(len(blob)):
        broken = bytearray(blob)
        broken[at] ^= mask
        with pytest.raises(Refused):
            envelope.open(bytes(broken), context=PLACE, ring=RING)


@given(cut=st.integers(0, 200))
def test_r3_every_shortened_blob_is_refused(cut):
    blob = envelope.seal(Secret(VALUE), context=PLACE, ring=RING)

    with pytest.raises(Refused):
        envelope.open(blob[: min(cut, len(blob) - 1)], context=PLACE, ring=RING)


def test_r3_a_blob_with_more_behind_it_is_refused():
    blob = envelope.seal(Secret(VALUE), context=PLACE, ring=RING)

    with pytest.raises(Refused):
        envelope.open(blob + b"\0", context=PLACE, ring=RING)


@given(here=contexts, there=contexts)
def test_r2_a_value_moved_elsewhere_does_not_open(here, there):
    blob = envelope.seal(Secret(VALUE), context=here, ring=RING)

    if here != there:
        with pytest.raises(Refused):
            envelope.open(blob, context=there, ring=RING)


def test_r2_neighbouring_parts_of_a_context_cannot_run_together():
    left, right = Context("ab", UUID(int=1), 1, "c"), Context("a", UUID(int=1), 1, "bc")

    assert envelope.bind(left, b"k") != envelope.bind(right, b"k")


@given(left=contexts, right=contexts)
def test_r2_no_two_contexts_share_an_encoding(left, right):
    assert (envelope.bind(left, b"k") == envelope.bind(right, b"k")) == (left == right)


def test_two_seals_of_one_value_share_no_bytes_but_the_header():
    first = envelope.seal(Secret(VALUE), context=PLACE, ring=RING)
    second = envelope.seal(Secret(VALUE), context=PLACE, ring=RING)

    assert first[:21] == second[:21]
    assert first[21:81] != second[21:81]
    assert first[-len(VALUE) - 16 :] != second[-len(VALUE) - 16 :]


def test_r1_the_blob_holds_neither_the_value_nor_the_key():
    blob = envelope.seal(Secret(VALUE), context=PLACE, ring=RING)

    assert VALUE not in blob
    assert RAW not in blob


def test_a_refusal_says_nothing_of_the_value():
    blob = envelope.seal(Secret(VALUE), context=PLACE, ring=RING)

    with pytest.raises(Refused) as caught:
        envelope.open(blob, context=Context("key", UUID(int=8), 3, "password"), ring=RING)

    assert caught.value.__cause__ is None
    assert VALUE.decode() not in str(caught.value)


def test_a_value_of_an_older_key_opens_and_a_new_one_uses_the_newest():
    old, new = bytes(32), bytes(range(1, 33))
    blob = envelope.seal(Secret(VALUE), context=PLACE, ring=ring(old))
    both = ring(old, new)

    assert envelope.open(blob, context=PLACE, ring=both).reveal() == VALUE
    fresh = envelope.seal(Secret(VALUE), context=PLACE, ring=both)
    assert envelope.kek_id_of(fresh) == both.active_id != envelope.kek_id_of(blob)


def test_r5_a_value_of_an_absent_key_is_refused():
    blob = envelope.seal(Secret(VALUE), context=PLACE, ring=RING)

    with pytest.raises(NoKek):
        envelope.open(blob, context=PLACE, ring=ring())


def test_r6_a_spent_key_seals_no_more():
    spent = ring(limit=1)
    envelope.seal(Secret(VALUE), context=PLACE, ring=spent)

    with pytest.raises(Exhausted):
        envelope.seal(Secret(VALUE), context=PLACE, ring=spent)


def test_the_form_of_a_blob_never_changes_unseen():
    """A blob of format 1, made once: a change that cannot read it must raise the format."""
    golden = bytes.fromhex(GOLDEN)

    assert envelope.open(golden, context=PLACE, ring=RING).reveal() == VALUE
