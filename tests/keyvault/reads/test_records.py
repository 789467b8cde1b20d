"""The bytes of a read are fixed: what is written today is read in ten years."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvault.audit.reads import records

PROCESS, AGENT, KEY = UUID(int=10), UUID(int=1), UUID(int=2)
RECORD = records.Record(
    1, PROCESS, 7, 1_795_717_996_867_558, AGENT, "abcdefgh", KEY, "billing-reader", 3, "key",
    "192.0.2.7", "req-1",
)  # fmt: skip
GOLDEN = (
    b'[1,"00000000-0000-0000-0000-00000000000a",7,1795717996867558,'
    b'"00000000-0000-0000-0000-000000000001","abcdefgh",'
    b'"00000000-0000-0000-0000-000000000002","billing-reader",3,"key","192.0.2.7","req-1"]'
)


def test_the_bytes_of_version_1_never_change():
    assert records.encode(RECORD) == GOLDEN
    assert records.decode(GOLDEN) == RECORD
    assert records.encode(tuple(RECORD)) == GOLDEN


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[1]",
        GOLDEN + b" ",
        GOLDEN.replace(b",7,", b", 7,"),
        GOLDEN.replace(b"[1,", b"[2,"),
        GOLDEN.replace(b"req-1", b"req-\\u0031"),
        GOLDEN.replace(b"]", b",1]"),
        GOLDEN.replace(b",7,", b',"7",'),
        b"\xff" + GOLDEN,
    ],
)
def test_what_is_spelled_otherwise_is_no_record(raw):
    with pytest.raises(records.BadRecord):
        records.decode(raw)


@given(st.text(max_size=100), st.text(max_size=100))
def test_no_text_of_a_caller_breaks_a_record(source, request):
    raw = records.encode(
        RECORD._replace(source=records.plain(source, 64), request=records.plain(request, 64))
    )

    assert records.encode(records.decode(raw)) == raw
    assert min(raw) >= 0x20
    assert len(json.loads(raw)) == len(RECORD)
    assert b"\\u0000" not in raw


def test_long_and_unprintable_texts_are_cut_and_shown():
    assert records.plain("a\x00b\nc", 64) == "a\ufffdb\ufffdc"
    assert records.plain("x" * 100, 64) == "x" * 64
