"""What goes back over the wire: status, headers, body (pure).

A body that holds a value is a bytearray, which the server overwrites once it
has been handed to the socket. The layout of a key's answer is written by hand,
because any encoder would leave copies of the value that nobody can overwrite.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from keyvault.gateway.entries import Entry, Version

Headers = list[tuple[str, str]]
JSON_TYPE, PROBLEM_TYPE = "application/json", "application/problem+json"
# Whatever a gateway says is for its asker alone and for this moment.
_ALWAYS: Headers = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")]
_JSON: Headers = [("content-type", JSON_TYPE), *_ALWAYS]
_PROBLEM: Headers = [("content-type", PROBLEM_TYPE), *_ALWAYS]
# Bytes that stand for themselves inside a JSON string.
_PLAIN = re.compile(rb"[ !#-\[\]-~]*")

encode = msgspec.json.encode


class Answer(NamedTuple):
    """One response."""

    status: int
    headers: Headers
    body: bytes | bytearray


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What is said of one key beside its value. `not_after`: when the reader's right to it ends.

    `public`: what belongs to the value and is no secret; it changes with the version.
    """

    name: str
    number: int
    expires_at: datetime | None
    not_after: datetime | None
    etag: str
    public: dict[str, str]


def facts(name: str, entry: Entry, version: Version, not_after: datetime | None) -> Facts:
    """Return what an answer says of a version. The tag changes with the version and the end.

    A pending version has a tag of its own: once it is current, whoever has fetched it before
    asks anew and is on record with it.
    """
    expires_at = version.expires_at or entry.expires_at
    last = not_after or expires_at
    if expires_at and last and expires_at < last:
        last = expires_at
    mark = "p" if version is entry.pending else ""
    etag = f'"{version.number}{mark}.{int(last.timestamp()) if last else 0:x}"'
    return Facts(name, version.number, expires_at, last, etag, version.public)


def of_json(status: int, content: object) -> Answer:
    """Return an answer without a secret in it."""
    return Answer(status, _JSON, encode(content))


def unchanged(found: Facts) -> Answer:
    """Say that the asker's copy is the current one (RFC 9110 section 15.4.5)."""
    return Answer(304, [*_ALWAYS, ("etag", found.etag)], b"")


def of_key(found: Facts, values: Mapping[str, bytearray]) -> Answer:
    """Return the answer that hands over one key."""
    body = bytearray()
    write_key(body, found, values)
    return Answer(200, [*_JSON, ("etag", found.etag)], body)


def of_keys(keys: Sequence[tuple[Facts, Mapping[str, bytearray]]]) -> Answer:
    """Return the answer that hands over several keys at once."""
    body = bytearray(b'{"keys":[')
    for number, (found, values) in enumerate(keys):
        if number:
            body += b","
        write_key(body, found, values)
    body += b"]}"
    return Answer(200, _JSON, body)


def of_body(body: bytearray) -> Answer:
    """Return an answer that hands over values, which another module has written."""
    return Answer(200, _JSON, body)


def write_key(body: bytearray, found: Facts, values: Mapping[str, bytearray]) -> None:
    """Write one key: a single value as `value`, several as `fields`, and what is no secret."""
    body += b'{"key":"%b","version":%d,' % (found.name.encode(), found.number)
    if len(values) == 1:
        body += b'"value":'
        write_text(body, next(iter(values.values())))
    else:
        write_fields(body, values)
    if found.public:
        body += b',"public":%b' % encode(found.public)
    body += b',"expires_at":%b,"not_after":%b,"etag":%b}' % (
        encode(found.expires_at),
        encode(found.not_after),
        encode(found.etag),
    )


def write_fields(body: bytearray, values: Mapping[str, bytearray]) -> None:
    """Write `"fields": {...}`."""
    body += b'"fields":{'
    for number, (field, value) in enumerate(values.items()):
        body += b"," if number else b""
        body += encode(field) + b":"
        write_text(body, value)
    body += b"}"


def write_text(body: bytearray, value: bytearray) -> None:
    """Write a value as a JSON string, without a copy unless it needs escaping.

    Bytes that are no UTF-8 are not expected of any provider; each is written
    as U+FFFD rather than failing the read.
    """
    if _PLAIN.fullmatch(value):
        body += b'"'
        body += value
        body += b'"'
    else:
        body += encode(value.decode("utf-8", "replace"))


def of_problem(
    status: int, content: Mapping[str, object], more: Sequence[tuple[str, str]] = ()
) -> Answer:
    """Return a problem document (RFC 9457)."""
    return Answer(status, [*_PROBLEM, *more], encode(content))
