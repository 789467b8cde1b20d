"""Compare the checkpoints of the database with those that lie outside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from keyvault.audit.models import Checkpoint
from keyvault.audit.note import BadNote, Head, Verifier, read
from keyvault.audit.sink import Directory, SinkUnavailable

CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of the ledger. `seq` is the first event it concerns, if there is one."""

    kind: str
    sentence: str
    seq: int | None = None

    def to_json(self) -> dict[str, str | int | None]:
        """Return the problem as plain JSON values."""
        return {"kind": self.kind, "sentence": self.sentence, "seq": self.seq}


class Findings(Protocol):
    """What problems are added to."""

    def add(self, kind: str, sentence: str, seq: int | None = None) -> None:
        """Note one problem."""


def check_row(findings: Findings, row: Checkpoint, head: Head, verifier: Verifier) -> None:
    """Note it when a stored checkpoint's columns are not what its signature covers."""
    try:
        signed = Head.parse(read(row.note, verifier))
    except BadNote as error:
        findings.add("signature", f"Checkpoint {row.number} is not ours: {error}.")
        return
    if signed != head:
        findings.add("signature", f"Checkpoint {row.number} was changed after it was signed.")


def compare(findings: Findings, sink: Directory) -> None:
    """Note every exported checkpoint that the database lacks or contradicts."""
    stored = dict(Checkpoint.objects.values_list("number", "note"))
    try:
        for place, text in sink.notes():
            head = _read(findings, place.name, text, sink.verifier)
            if head is not None:
                _compare_one(findings, head, text, stored.pop(head.number, None))
    except SinkUnavailable as error:
        findings.add("sink", str(error))
    for number in sorted(stored)[:20]:
        findings.add("sink", f"Checkpoint {number} is missing outside the database.")


def _read(findings: Findings, name: str, text: str, verifier: Verifier) -> Head | None:
    try:
        return Head.parse(read(text, verifier))
    except BadNote as error:
        findings.add("signature", f"The exported checkpoint {name} is not ours: {error}.")
        return None


def _compare_one(findings: Findings, head: Head, text: str, known: str | None) -> None:
    if known is None:
        findings.add(
            "truncated",
            f"Checkpoint {head.number} lies outside and covers {head.size} events;"
            " the database has lost it.",
        )
    elif known != text:
        findings.add("fork", f"There are two different checkpoints with the number {head.number}.")
