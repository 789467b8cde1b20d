"""Signed notes and checkpoints, as C2SP defines `signed-note` and `tlog-checkpoint`.

Pure. A checkpoint says in three lines which log, how many events, which root.
Two extension lines follow: the checkpoint's own number, so that a missing one
leaves a hole in the count, and the time at which it was signed.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Protocol, Self

from keyvault.audit.merkle import HASH_BYTES
from keyvault.crypto import signing

_ED25519 = b"\x01"  # The signature type byte of signed-note.
_ID_BYTES = 4
_DASH = "\u2014 "
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_NAME = re.compile(r"[^\s+]+")


class BadNote(ValueError):
    """The text is no signed note, or no trusted key has signed it."""


class Signer(Protocol):
    """A key that signs notes."""

    public: bytes

    def sign(self, message: bytes) -> bytes:
        """Return an Ed25519 signature over `message` (RFC 8032)."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """The public half of a log's key: what an auditor keeps. `name` is the log's origin."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Return the four bytes that lead each signature line of this key."""
        return sha256(f"{self.name}\n".encode() + _ED25519 + self.public).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        """Return the one-line form of signed-note, for example to give to an auditor."""
        return f"{self.name}+{self.key_id.hex()}+{_encode(_ED25519 + self.public)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the one-line form. Raises BadNote."""
        name, _, rest = text.strip().partition("+")
        stated, _, encoded = rest.partition("+")
        raw = _decode(encoded)
        verifier = cls(name, raw[1:])
        if raw[:1] != _ED25519 or not _NAME.fullmatch(name) or verifier.key_id.hex() != stated:
            raise BadNote("this is no verifier key of an Ed25519 signer")
        return verifier


@dataclass(frozen=True, slots=True)
class Head:
    """What one checkpoint states."""

    origin: str
    size: int
    root: bytes
    number: int
    at: datetime

    def body(self) -> str:
        """Return the text to sign."""
        at = self.at.astimezone(UTC).strftime(_TIME)
        return (
            f"{self.origin}\n{self.size}\n{_encode(self.root)}\nnumber {self.number}\ntime {at}\n"
        )

    @classmethod
    def parse(cls, body: str) -> Self:
        """Read the signed text, strictly. Raises BadNote."""
        lines = body.split("\n")
        if len(lines) != 6 or lines[-1] or not lines[0]:  # noqa: PLR2004 - five lines and their end.
            raise BadNote("a checkpoint has five lines")
        number, time = lines[3].removeprefix("number "), lines[4].removeprefix("time ")
        if not _SIZE.fullmatch(lines[1]) or not _SIZE.fullmatch(number):
            raise BadNote("a checkpoint counts in plain decimal numbers")
        root = _decode(lines[2])
        try:
            at = datetime.strptime(time, _TIME).replace(tzinfo=UTC)
        except ValueError as error:
            raise BadNote("a checkpoint states its time") from error
        head = cls(lines[0], int(lines[1]), root, int(number), at)
        if len(root) != HASH_BYTES or head.body() != body:
            raise BadNote("a checkpoint is written in one way only")
        return head


def sign(body: str, *, name: str, signer: Signer) -> str:
    """Return the signed note over `body`, which must end with a newline."""
    signature = Verifier(name, signer.public).key_id + signer.sign(body.encode())
    return f"{body}\n{_DASH}{name} {_encode(signature)}\n"


def read(note: str, verifier: Verifier) -> str:
    """Return the text of a note that `verifier`'s key has signed.

    Unknown signatures are passed over, so that witnesses may add theirs.
    Raises BadNote when the trusted one is missing or false.
    """
    body, mark, signatures = note.rpartition("\n\n")
    if not mark or not signatures.endswith("\n"):
        raise BadNote("this is no signed note")
    body += "\n"
    for line in signatures[:-1].split("\n"):
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        raw = _decode(encoded)
        if name == verifier.name and raw[:_ID_BYTES] == verifier.key_id:
            _check(verifier, raw[_ID_BYTES:], body)
            return body
    raise BadNote(f"{verifier.name} has not signed this note with the trusted key")


def _check(verifier: Verifier, signature: bytes, body: str) -> None:
    try:
        signing.verify(verifier.public, signature, body.encode())
    except signing.BadSignature as error:
        raise BadNote(f"the signature of {verifier.name} is false") from error


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadNote("this is not base64") from error
