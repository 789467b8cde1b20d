"""Compare the rows of reads with what the ledger says of each segment.

The events are the truth: they are leaves of the signed tree. A segment's row,
and every row and column of a read, could have been changed in the database, so
each record is hashed again, led to the root in the event, and its columns are
compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection

from keyvault.audit.merkle import Frontier, leaf_hash
from keyvault.audit.models import LedgerLeaf
from keyvault.audit.outside import Findings
from keyvault.audit.reads.models import ReadEvent, ReadSegment
from keyvault.audit.reads.records import BadRecord, Record, decode
from keyvault.audit.reads.segments import DROPPED, SEGMENT

CHUNK = 2000
LATE = timedelta(minutes=1)  # The clock records a segment within seconds.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = tuple(name for name in Record._fields if name != "version")

_STRAY = """
SELECT r.process, r.n - coalesce(s.n, 0)
FROM (SELECT process, count(*) AS n FROM keyvault_readevent GROUP BY process) AS r
LEFT JOIN (SELECT process, sum(count) AS n FROM keyvault_readsegment GROUP BY process) AS s
    USING (process)
WHERE r.n > coalesce(s.n, 0) ORDER BY r.process LIMIT 20
"""


def compare(findings: Findings, now: datetime, *, beat: Callable[[], None]) -> int:
    """Check every segment that the ledger knows; return how many reads were hashed again.

    Reads of days that were dropped are not there to be checked; the ledger says
    which those are. `beat` is called after each segment.
    """
    dropped_until, reads = _dropped_until(), 0
    lasts: dict[str, int] = {}
    for seq, fields in _events(SEGMENT):
        _check_place(findings, seq, fields, lasts)
        if datetime.fromisoformat(fields["first_at"]) >= dropped_until:
            reads += _check_rows(findings, seq, fields)
        beat()
    _check_strays(findings)
    late = ReadSegment.objects.filter(event=None, closed_at__lt=now - LATE).count()
    if late:
        findings.add("unplaced", f"{late} segments of reads have waited for over a minute.")
    return reads


def _events(name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    leaves = LedgerLeaf.objects.filter(event__event=name).order_by("seq")
    return leaves.values_list("seq", "event__fields").iterator(chunk_size=CHUNK)


def _dropped_until() -> datetime:
    return max(
        (datetime.fromisoformat(fields["until"]) for _, fields in _events(DROPPED)), default=_EPOCH
    )


def _check_place(
    findings: Findings, seq: int, fields: Mapping[str, Any], lasts: dict[str, int]
) -> None:
    """Note it when a segment does not begin where the one before it ended."""
    process, expected = fields["process"], lasts.get(fields["process"], 0) + 1
    if fields["first"] != expected:
        findings.add(
            "read_gap",
            f"A segment of reads begins at {fields['first']} of process {process};"
            f" {expected} was next.",
            seq,
        )
    lasts[process] = fields["last"]


def _check_rows(findings: Findings, seq: int, fields: Mapping[str, Any]) -> int:
    tree, process = Frontier(), UUID(fields["process"])
    rows = ReadEvent.objects.filter(
        process=process,
        seq__range=(fields["first"], fields["last"]),
        # The time finds the partition; without it every day is looked through.
        at__range=(fields["first_at"], fields["last_at"]),
    ).order_by("seq")
    expected = fields["first"]
    for record, *columns in rows.values_list("record", *_COLUMNS).iterator(chunk_size=CHUNK):
        _check_row(findings, seq, bytes(record), tuple(columns))
        if columns[1] != expected:
            _miss(findings, seq, process, expected)
        expected = columns[1] + 1
        tree.append(leaf_hash(bytes(record)))
    if expected != fields["last"] + 1:
        _miss(findings, seq, process, expected)
    if tree.root().hex() != fields["root"]:
        findings.add(
            "read_root",
            f"Reads {fields['first']} to {fields['last']} of process {process}"
            " do not lead to the root that the ledger has.",
            seq,
        )
    return tree.size


def _check_row(findings: Findings, seq: int, raw: bytes, columns: tuple[Any, ...]) -> None:
    try:
        is_same = as_columns(decode(raw)) == columns
    except BadRecord:
        is_same = False
    if not is_same:
        findings.add("read_edited", f"Read {columns[1]} of process {columns[0]} was edited.", seq)


def as_columns(record: Record) -> tuple[Any, ...]:
    """Return what the columns of a record's row must hold."""
    at = _EPOCH + timedelta(microseconds=record.at)
    return (record.process, record.seq, at, *record[4:])


def _miss(findings: Findings, seq: int, process: UUID, number: int) -> None:
    findings.add("read_missing", f"Read {number} of process {process} is missing.", seq)


def _check_strays(findings: Findings) -> None:
    """Note reads that no segment counts: rows that were added, or whose segment was deleted."""
    with connection.cursor() as cursor:
        cursor.execute(_STRAY)
        for process, count in cursor.fetchall():
            findings.add("read_stray", f"{count} reads of process {process} are in no segment.")
