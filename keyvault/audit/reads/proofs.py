"""The proof of one read: from its record to its segment's root, from there to a signed checkpoint."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from approvals.ports import Actor
from keyvault.audit import merkle, proofs, reading, selectors
from keyvault.audit.merkle import InvalidProof
from keyvault.audit.models import LedgerLeaf
from keyvault.audit.reads.models import ReadEvent, ReadSegment
from keyvault.audit.selectors import Opened

FORMAT, VERSION = "keyvault-read-proof", 1


@dataclass(frozen=True, slots=True)
class Located:
    """One read with its segment: where it stands in it, and the way to the root."""

    record: bytes
    segment: ReadSegment
    path: tuple[bytes, ...]
    seq: int


def locate(process: UUID, number: int) -> Located:
    """Return one read and its path to the root that its ledger event states.

    Raises LookupError when there is no such read, when its day was dropped, and
    until the ledger has its segment; InvalidProof when the rows were changed.
    """
    segment = (
        ReadSegment.objects.select_related("event__leaf")
        .filter(process=process, first__lte=number, last__gte=number)
        .first()
    )
    if segment is None:
        raise LookupError(f"process {process} has no read {number}")
    leaf = _leaf(segment)
    records = _records(segment)
    index, leaves = number - segment.first, [merkle.leaf_hash(record) for record in records]
    stated = bytes.fromhex(leaf.event.fields["root"])
    path = tuple(merkle.inclusion_proof(index, segment.count, merkle.over(leaves)))
    merkle.check_inclusion(
        index=index, size=segment.count, leaf=leaves[index], path=path, root=stated
    )
    return Located(records[index], segment, path, leaf.seq)


def give(process: UUID, number: int, *, actor: Actor, now: datetime) -> dict[str, Any]:
    """Return the proof of one read for a person, and record that its event was opened.

    Raises what `locate` and `bundle` raise.
    """
    found = locate(process, number)
    return bundle(found, reading.open_event(found.seq, actor=actor, now=now))


def bundle(found: Located, opened: Opened | None = None) -> dict[str, Any]:
    """Return the proof as a file that `verify_ledger.py` checks far from here.

    Raises LookupError while no checkpoint covers the event, and
    checkpoints.NoSigner when the process is sealed.
    """
    event = proofs.bundle(opened or selectors.event(found.seq))
    return {
        **event,
        "format": FORMAT,
        "version": VERSION,
        "record": found.record.decode(),
        "record_path": [base64.b64encode(node).decode() for node in found.path],
    }


def _leaf(segment: ReadSegment) -> LedgerLeaf:
    leaf: LedgerLeaf | None = getattr(segment.event, "leaf", None) if segment.event else None
    if leaf is None:
        raise LookupError("the ledger does not have this segment yet; it will within seconds")
    return leaf


def _records(segment: ReadSegment) -> list[bytes]:
    rows = ReadEvent.objects.filter(
        process=segment.process,
        seq__range=(segment.first, segment.last),
        at__range=(segment.first_at, segment.last_at),
    ).order_by("seq")
    found = [bytes(record) for record in rows.values_list("record", flat=True)]
    if not found:
        raise LookupError("the reads of this segment are no longer kept")
    if len(found) != segment.count:
        raise InvalidProof(f"{segment.count - len(found)} reads of the segment are missing")
    return found
