"""Verify a keyvault audit export, or the proof of one event or one read, on any machine.

This one file needs Python 3.11 and the `cryptography` package. It shares no
code with the server on purpose: it is the second opinion.

    python verify_ledger.py EXPORT.jsonl --trust ledger.vkey --checkpoints DIR

Exit codes: 0 everything agrees, 1 something was altered, 2 not such a file.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

INTACT, ALTERED, UNUSABLE = 0, 1, 2
EXPORT, PROOF, READ = "keyvault-ledger", "keyvault-proof", "keyvault-read-proof"
HEAD = {"format", "version", "vkey", "checkpoint"}
MEMBERS = {EXPORT: HEAD | {"statement"}, PROOF: HEAD | {"seq", "path", "event"}}
MEMBERS[READ] = MEMBERS[PROOF] | {"record", "record_path"}
MOST_FAULTS, TALLEST, HASH_BYTES, CLOCK_TOLERANCE = 50, 64, 32, timedelta(minutes=5)


class Bad(Exception):
    """A file, or a piece of it, is malformed or falsely signed; the sentence says which."""


MALFORMED = (Bad, ValueError, TypeError, KeyError, AttributeError)


@dataclass(slots=True)
class Report:
    """What was found: `events` shown in full, `size` events covered by the signed root."""

    events: int = 0
    size: int = 0
    checkpoints: int = 0
    key: str = ""
    is_key_trusted: bool = False
    statement: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def fault(self, sentence: str) -> None:
        """Note one fault, up to fifty of them."""
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(sentence)


@dataclass(frozen=True, slots=True)
class Key:
    """The log's name and public key, in the one-line form of C2SP signed-note."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Return the four bytes that lead this key's signatures."""
        return hashlib.sha256(f"{self.name}\n\x01".encode() + self.public).digest()[:4]

    @classmethod
    def parse(cls, text: str) -> Key:
        """Read `name+id+base64`. Raises Bad."""
        name, *_, encoded = text.strip().split("+", 2)
        raw = unbase64(encoded)
        key = cls(name, raw[1:])
        if raw[:1] != b"\x01" or text.strip().split("+")[1] != key.id.hex():
            raise Bad("this is no public key of a ledger")
        return key

    def open(self, note: str) -> list[str]:
        """Return the lines of a note that this key has signed. Raises Bad."""
        body, _, signatures = note.rpartition("\n\n")
        for line in signatures.splitlines():
            name, _, encoded = line.removeprefix("\u2014 ").partition(" ")
            raw = unbase64(encoded)
            if name == self.name and raw[:4] == self.id:
                try:
                    public = Ed25519PublicKey.from_public_bytes(self.public)
                    public.verify(raw[4:], f"{body}\n".encode())
                except (InvalidSignature, ValueError):
                    raise Bad("its signature is false") from None
                return body.split("\n")
        raise Bad("another key has signed it, or none")


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint: the root over the first `size` events, its number and time."""

    size: int
    root: bytes
    number: int
    at: datetime

    @classmethod
    def read(cls, note: str, key: Key) -> Head:
        """Check the signature and read the five lines. Raises Bad."""
        try:
            origin, size, root, number, at = key.open(note)
            if origin != key.name:
                raise Bad("it belongs to another log")
            return cls(int(size), unbase64(root), int(number[7:]), datetime.fromisoformat(at[5:]))
        except ValueError:
            raise Bad("it is no checkpoint") from None


@dataclass(slots=True)
class Tree:
    """An RFC 6962 tree that grows by leaves and by the roots of whole subtrees."""

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    def push(self, height: int, node: bytes) -> None:
        """Add a subtree of `1 << height` leaves. Raises Bad where none can begin."""
        if not 0 <= height < TALLEST or self.size & ((1 << height) - 1) or len(node) != HASH_BYTES:
            raise Bad(f"a skipped part cannot begin after event {self.size}")
        self.size += 1 << height
        position = (self.size >> height) - 1
        while position & 1:
            node, position = parent(self.peaks.pop(), node), position >> 1
        self.peaks.append(node)

    def root(self) -> bytes:
        """Return the root at this size."""
        empty = [hashlib.sha256(b"").digest()]
        return reduce(lambda node, left: parent(left, node), reversed(self.peaks or empty))


def parent(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def leaf_of(event: Any) -> bytes:  # noqa: ANN401 - any JSON value.
    """Return the leaf hash of an event: over sorted, compact, UTF-8 JSON."""
    text = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(b"\x00" + text.encode("utf-8", "surrogatepass")).digest()


def unbase64(text: str) -> bytes:
    """Decode strictly. Raises Bad."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Bad("it is not base64") from None


def parse(line: str, number: int) -> dict[str, Any]:
    """Read one line strictly: an object, no member twice, no floats. Raises Bad."""
    try:
        found = json.loads(line, object_pairs_hook=_once, parse_float=_no, parse_constant=_no)
    except (ValueError, RecursionError):
        raise Bad(f"line {number} is not strict JSON") from None
    if not isinstance(found, dict):
        raise Bad(f"line {number} is no object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a member is named twice")
    return dict(pairs)


def _no(text: str) -> NoReturn:
    raise ValueError(f"no event holds {text}")


class Reading:
    """One pass over an export: grows the tree and compares it with every signed head."""

    def __init__(self, key: Key, report: Report, outside: Sequence[Head]) -> None:
        self.key, self.report, self.tree = key, report, Tree()
        self.outside = sorted(outside, key=lambda head: head.size)
        self.place = self.last_seen = self.last_good = 0
        self.is_broken = False
        self.met: set[int] = set()

    def take(self, line: dict[str, Any]) -> None:
        """Take one line after the header. Raises Bad."""
        match sorted(line):
            case ["event", "leaf", "seq"]:
                self._event(line["seq"], line["leaf"], line["event"])
            case ["skip"]:
                for height, node in line["skip"]:
                    self.tree.push(height, bytes.fromhex(node))
            case ["checkpoint"]:
                self._compare(Head.read(line["checkpoint"], self.key))
            case other:
                raise Bad(f"a line holds {', '.join(other)}")
        while self.place < len(self.outside) and self.outside[self.place].size <= self.tree.size:
            if self.outside[self.place].size == self.tree.size:
                self._compare(self.outside[self.place])
            self.place += 1

    def finish(self, head: Head, shown: int) -> None:
        """Compare the end of the file with what its header signed."""
        report = self.report
        report.size, report.checkpoints = self.tree.size, len(self.met)
        if self.tree.size != head.size and not self.is_broken:
            report.fault(f"The file ends after event {self.tree.size}; {head.size} are signed for.")
        elif not self.is_broken:
            self._compare(head)
        if report.events != shown:
            report.fault(f"The file shows {report.events} events; its statement says {shown}.")

    def _event(self, seq: int, leaf: str, event: dict[str, Any]) -> None:
        if seq != self.tree.size + 1:
            self._misplaced(seq, self.tree.size + 1)
        elif bytes.fromhex(leaf) != leaf_of(event):
            self.report.fault(f"Event {seq} was edited: {event.get('event')} at {event.get('at')}.")
        if not self.is_broken:
            self.tree.push(0, bytes.fromhex(leaf))
        self.last_seen = max(seq, self.last_seen)
        self.report.events += 1
        for after in self.outside[self.place : self.place + 1]:
            if datetime.fromisoformat(event["at"]) - after.at > CLOCK_TOLERANCE:
                self.report.fault(f"Event {seq} is dated after checkpoint {after.number} over it.")

    def _misplaced(self, seq: int, expected: int) -> None:
        if not self.is_broken and seq <= self.last_seen:
            self.report.fault(f"Event {seq} stands twice or in the wrong order.")
        elif not self.is_broken:
            self.report.fault(f"Event {expected} is missing: event {seq} follows.")
        self.is_broken = True

    def _compare(self, head: Head) -> None:
        self.met.add(head.number)
        if not self.is_broken and (head.size, head.root) != (self.tree.size, self.tree.root()):
            self.is_broken = True
            part = f"Events {self.last_good + 1} to {head.size}"
            self.report.fault(f"{part} do not lead to the root in checkpoint {head.number}.")
        self.last_good = head.size


def heads_in(path: Path, key: Key, report: Report) -> list[Head]:
    """Read checkpoints from a file or a directory; note foreign ones, forks and gaps."""
    found: dict[int, Head] = {}
    for place in sorted(path.rglob("*.note")) if path.is_dir() else [path]:
        try:
            head = Head.read(place.read_text(encoding="utf-8", errors="replace"), key)
        except Bad as bad:
            report.fault(f"The checkpoint {place.name} cannot be trusted: {bad}.")
            continue
        if found.setdefault(head.number, head) != head:
            report.fault(f"Two different checkpoints have the number {head.number}: a fork.")
    ordered = [found[number] for number in sorted(found)]
    for before, after in itertools.pairwise(ordered):
        if after.number != before.number + 1:
            report.fault(f"Checkpoints {before.number + 1} to {after.number - 1} are missing.")
        if after.size < before.size or (after.size == before.size and after.root != before.root):
            report.fault(f"Checkpoint {after.number} contradicts {before.number}: a fork.")
    return ordered


def verify_export(lines: Iterator[str], *, trusted: Key | None, checkpoints: Path | None) -> Report:
    """Verify an export line by line. Raises Bad when it is not one."""
    header, report = _header(next(lines, ""), EXPORT), Report()
    key = _key(header, trusted, report)
    try:
        head = Head.read(header["checkpoint"], key)
        origin, text = key.open(header["statement"])
        report.statement = parse(text if origin == f"{key.name}/export" else "", 1)
    except (Bad, ValueError) as bad:
        report.fault(f"The header cannot be trusted: {bad}.")
        return report
    outside = heads_in(checkpoints, key, report) if checkpoints else []
    exported_at = datetime.fromisoformat(report.statement["exported_at"])
    for later in outside:
        if later.size > head.size and later.at <= exported_at:
            report.fault(f"Checkpoint {later.number}, older than the export, covers more events.")
    reading = Reading(key, report, [*outside, head])
    for number, line in enumerate(lines, start=2):
        try:
            reading.take(parse(line, number))
        except MALFORMED as bad:
            report.fault(f"Line {number} was altered: {bad}.")
            reading.is_broken = True
    reading.finish(head, report.statement["events"])
    return report


def verify_proof(proof: dict[str, Any], *, trusted: Key | None) -> Report:
    """Verify that one event, and in it one read, is in a signed tree (RFC 9162, 2.1.3.2)."""
    report = Report(events=1)
    key = _key(proof, trusted, report)
    try:
        head = Head.read(proof["checkpoint"], key)
        root = _climb(proof["seq"] - 1, head.size, leaf_of(proof["event"]), proof["path"])
        if proof["format"] == READ:
            _check_read(proof, report)
    except MALFORMED as bad:
        report.fault(f"The proof cannot be trusted: {bad}.")
        return report
    report.size, report.checkpoints = head.size, 1
    if root != head.root:
        report.fault(f"Event {proof['seq']} does not lead to the root of checkpoint {head.number}.")
    return report


def _check_read(proof: dict[str, Any], report: Report) -> None:
    """Lead a record to the root of its segment, which the event states."""
    record, fields = json.loads(proof["record"]), proof["event"]["fields"]
    index, leaf = record[2] - fields["first"], hashlib.sha256(b"\x00" + proof["record"].encode())
    root = _climb(index, fields["count"], leaf.digest(), proof["record_path"])
    stated = ["reads.segment", fields["process"], fields["root"]]
    if [proof["event"]["event"], record[1], root.hex()] != stated:
        report.fault(f"Read {record[2]} does not lead to the root that its event states.")
    report.statement = {"read": proof["record"]}


def _climb(index: int, size: int, node: bytes, path: Sequence[str]) -> bytes:
    last = size - 1
    if not 0 <= index <= last:
        raise Bad("the event lies outside the tree")
    for sibling in map(unbase64, path):
        is_right = index & 1 or index == last
        node = parent(sibling, node) if is_right else parent(node, sibling)
        while is_right and index and not index & 1:
            index, last = index >> 1, last >> 1
        index, last = index >> 1, last >> 1
    if last:
        raise Bad("the path is too short")
    return node


def _header(line: str, *formats: str) -> dict[str, Any]:
    header = parse(line, 1)
    found, version = header.get("format"), header.get("version")
    if found not in formats or version != 1 or set(header) != MEMBERS[found]:
        raise Bad("this is no keyvault file of version 1")
    return header


def _key(header: dict[str, Any], trusted: Key | None, report: Report) -> Key:
    named = Key.parse(str(header["vkey"]))
    key = trusted or named
    if key != named:
        report.fault("The file names another key than the trusted one.")
    report.key, report.is_key_trusted = f"{key.name} {key.id.hex()}", trusted is not None
    return key


def _show(report: Report, *, is_json: bool) -> None:
    if is_json:
        print(json.dumps({"intact": not report.faults, **asdict(report)}, default=str))
        return
    covered = f"{report.size} covered by {report.checkpoints} signed checkpoints"
    good = [] if report.faults else [f"INTACT   {report.events} events shown, {covered}."]
    read = [f"READ     {report.statement['read']}"] if "read" in report.statement else []
    print(*(good or [f"ALTERED  {sentence}" for sentence in report.faults]), *read, sep="\n")
    hint = "" if report.is_key_trusted else "  Compare it with the one you hold, or use --trust."
    print(f"key      {report.key}{hint}")


def main(argv: Sequence[str] | None = None) -> int:
    """Verify a file and return the exit code."""
    parser = argparse.ArgumentParser(prog="verify_ledger", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="an audit export (JSONL) or a proof (JSON)")
    parser.add_argument("--trust", metavar="KEY", help="the ledger's public key, or a file of it")
    parser.add_argument("--checkpoints", type=Path, metavar="DIR", help="exported checkpoints")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(argv)
    try:
        report = _verify(options)
    except (Bad, OSError, UnicodeDecodeError) as error:
        print(f"UNUSABLE {options.file}: {error}.", file=sys.stderr)
        return UNUSABLE
    _show(report, is_json=options.json)
    return ALTERED if report.faults else INTACT


def _verify(options: argparse.Namespace) -> Report:
    given = options.trust and Path(options.trust)
    trusted = Key.parse(given.read_text() if given.is_file() else options.trust) if given else None
    with options.file.open(encoding="utf-8", newline="\n") as file:
        first = _header(file.readline(), *MEMBERS)
        if first["format"] != EXPORT:
            return verify_proof(first, trusted=trusted)
        file.seek(0)
        return verify_export(iter(file), trusted=trusted, checkpoints=options.checkpoints)


if __name__ == "__main__":
    sys.exit(main())
