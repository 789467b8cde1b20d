"""The bytes of one read: what a gateway writes down, what a segment's root covers.

Pure. A record is one JSON array without white space, its members in a fixed
order after the version of this form. Equal reads have equal bytes, PostgreSQL
and a verifier elsewhere can take them apart without our code, and no byte below
0x20 stands in them, so that a line feed can separate records.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import msgspec

VERSION = 1
TOKEN_MAX, KEY_MAX, SOURCE_MAX, REQUEST_MAX = 64, 100, 64, 64


class BadRecord(ValueError):
    """The bytes are no record of a version that is known here."""


class Record(NamedTuple):
    """One read. `seq` counts from 1 in each process; `at` is microseconds since 1970, UTC."""

    version: int
    process: UUID
    seq: int
    at: int
    agent_id: UUID
    token: str
    key_id: UUID
    key: str
    number: int
    door: str
    source: str
    request: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


def encode(record: Record) -> bytes:
    """Return the bytes of a record. Its texts must be `plain`."""
    return _encode(record)


def decode(raw: bytes) -> Record:
    """Return the record in these bytes. Raises BadRecord, also when they are spelled otherwise."""
    try:
        record = _decode(raw)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BadRecord(f"these bytes are no record of a read: {error}") from error
    if record.version != VERSION or _encode(record) != raw:
        raise BadRecord("these bytes are no record of version 1")
    return record


def plain(text: str, limit: int) -> str:
    """Return text that every reader of a record can hold: printable, at most `limit` characters.

    What a caller sends must not be able to prevent the record of its read.
    """
    if len(text) <= limit and text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:limit]
    )
