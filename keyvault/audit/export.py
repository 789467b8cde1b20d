"""Exports of exactly what a query matches: CSV for people, JSONL with proof for machines.

A JSONL export is one signed header and then the tree itself, from its first
leaf to the checkpoint in the header: matching events in full, and everything
between them as the fewest hashes that cover it. Whoever holds the file and the
public key grows the tree again; one changed, missing, added or moved line and
the root differs. docs/exports.md describes the format.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Mod

from approvals import canonical
from approvals.ports import Actor, Subject
from keyvault.audit import checkpoints, ledger, merkle, selectors, tree
from keyvault.audit.models import Checkpoint, Event
from keyvault.audit.note import sign
from keyvault.audit.query import Query

FORMAT, VERSION = "keyvault-ledger", 1
CSV, JSONL = "csv", "jsonl"
PAGE_LIMIT = 100_000  # Rows that a page exports; the command line has no limit.
_CHUNK, _HEADS = 1000, 1000
_TILES = 4096
_VERIFIER = Path(__file__).parent.parent / "cli" / "verify_ledger.py"

COLUMNS = (
    "seq", "time", "action", "result", "actor-kind", "actor", "actor-id", "on-behalf-of",
    "target-kind", "target", "target-id", "request", "ip", "session", "correlation",
    "user-agent", "fields", "id",
)  # fmt: skip
# Spreadsheets start a formula at these, some after full-width folding (R44).
_FORMULA = tuple("=+-@\t\r\n|%\uff1d\uff0b\uff0d\uff20")


class TooLarge(Exception):
    """The export has more rows than a page hands out. Says how to split it."""


@dataclass(frozen=True, slots=True)
class Export:
    """An export that is recorded and may now be written out. `count` rows, up to `size`."""

    kind: str
    query: Query
    count: int
    checkpoint: Checkpoint
    exported_at: datetime

    @property
    def filename(self) -> str:
        """Return a name that sorts by time."""
        return f"keyvault-audit-{self.exported_at:%Y%m%dT%H%M%SZ}.{self.kind}"


def prepare(
    query: Query, *, kind: str, actor: Actor, now: datetime, limit: int | None = PAGE_LIMIT
) -> Export:
    """Sign a checkpoint over what there is, count what matches, and record the export.

    What is exported is fixed here: events up to that checkpoint, which can no
    longer change. Raises TooLarge, filters.Unanswerable, ledger.LedgerUnavailable
    and what checkpoints.run_once raises.
    """
    checkpoint = _checkpoint(now)
    with transaction.atomic(durable=True):
        count = _matching(query, checkpoint).count()
        if limit is not None and count > limit:
            raise TooLarge(
                f"{count:,} events match; a page exports {limit:,} at most. Narrow the time,"
                " or run: keyvault audit export"
            )
        ledger.record(
            "audit.exported",
            actor=actor,
            subject=Subject("export", str(uuid4()), f"{count} events"),
            now=now,
            fields={
                "query": query.raw,
                "format": kind,
                "count": count,
                "size": checkpoint.size,
                "checkpoint": checkpoint.number,
            },
        )
    return Export(kind=kind, query=query, count=count, checkpoint=checkpoint, exported_at=now)


def lines(export: Export) -> Iterator[str]:
    """Yield the lines of an export, one bounded chunk of rows in memory at a time."""
    rows = _matching(export.query, export.checkpoint).select_related("leaf")
    ordered = rows.order_by("leaf__seq").iterator(chunk_size=_CHUNK)
    return _csv(ordered) if export.kind == CSV else _jsonl(ordered, export)


def verifier() -> str:
    """Return the source of the stand-alone verifier, to hand out beside exports."""
    return _VERIFIER.read_text(encoding="utf-8")


def neutral(cell: str) -> str:
    """Return a CSV cell that no spreadsheet runs as a formula, on one line (R44)."""
    shown = cell.replace("\r", "\\r").replace("\n", "\\n").replace("\x1b", "\\x1b")
    return f"'{shown}" if cell.lstrip(" \u00a0\u3000").startswith(_FORMULA) else shown


def _checkpoint(now: datetime) -> Checkpoint:
    made = checkpoints.run_once(now, is_forced=True)
    if made is None:
        raise checkpoints.NoSigner("No checkpoint could be signed.")
    return made


def _matching(query: Query, checkpoint: Checkpoint) -> QuerySet[Event]:
    return selectors.matches(query).filter(leaf__seq__lte=checkpoint.size)


class _Echo:
    """A file for the csv module that hands each line back."""

    def write(self, line: str) -> str:
        return line


def _csv(rows: Iterator[Event]) -> Iterator[str]:
    writer = csv.writer(_Echo(), lineterminator="\r\n")
    yield writer.writerow(COLUMNS)
    for row in rows:
        yield writer.writerow([neutral(cell) for cell in _cells(row)])


def _cells(row: Event) -> Sequence[str]:
    entry = row.entry().to_json()
    return [
        str(row.leaf.seq),
        entry["at"],
        row.event,
        row.outcome,
        row.actor_kind,
        row.actor_label,
        row.actor_id,
        row.on_behalf_of,
        row.subject_kind,
        row.subject_label,
        row.subject_id,
        entry["request_id"] or "",
        row.ip,
        row.session,
        row.correlation_id,
        row.user_agent,
        canonical.dumps(row.fields).decode(),
        str(row.id),
    ]


def _jsonl(rows: Iterator[Event], export: Export) -> Iterator[str]:
    yield _line(_header(export))
    read = _tiled()
    frontier = merkle.Frontier()
    heads = _heads(export)
    for row in rows:
        yield from _skip(frontier, row.leaf.seq - 1, read)
        frontier.append(bytes(row.leaf.leaf_hash))
        yield _line(
            {
                "seq": row.leaf.seq,
                "leaf": bytes(row.leaf.leaf_hash).hex(),
                "event": row.entry().to_json(),
            }
        )
        if frontier.size in heads:
            yield _line({"checkpoint": heads[frontier.size]})
    yield from _skip(frontier, export.checkpoint.size, read)


def _header(export: Export) -> dict[str, object]:
    origin = tree.state().origin
    statement = canonical.dumps(
        {
            "query": " ".join(term.raw for term in export.query.terms),
            "events": export.count,
            "size": export.checkpoint.size,
            "exported_at": export.exported_at.isoformat(),
        }
    ).decode()
    return {
        "format": FORMAT,
        "version": VERSION,
        "vkey": str(checkpoints.verifier()),
        "checkpoint": export.checkpoint.note,
        "statement": sign(
            f"{origin}/export\n{statement}\n", name=origin, signer=checkpoints.signer()
        ),
    }


def _skip(frontier: merkle.Frontier, until: int, read: merkle.Reader) -> Iterator[str]:
    pieces = []
    for height, position in merkle.cover(frontier.size, until):
        node = merkle.subtree(height, position, read)
        frontier.push(height, node)
        pieces.append([height, node.hex()])
    if pieces:
        yield _line({"skip": pieces})


def _heads(export: Export) -> dict[int, str]:
    """Return up to a thousand earlier checkpoints by size, evenly spread: they narrow a fault."""
    older = Checkpoint.objects.filter(size__lt=export.checkpoint.size)
    step = older.count() // _HEADS + 1
    chosen = older.annotate(turn=Mod("number", step)).filter(turn=0)
    return dict(chosen.values_list("size", "note"))


def _tiled() -> merkle.Reader:
    """Return the reader over the tables that fetches 256 hashes at once and keeps them a while."""
    width = 1 << merkle.STRIDE

    @lru_cache(maxsize=_TILES)
    def tile(height: int, number: int) -> Sequence[bytes]:
        return tree.read(height, number * width, (number + 1) * width)

    def read(height: int, start: int, stop: int) -> Sequence[bytes]:
        number, offset = divmod(start, width)
        return tile(height, number)[offset : offset + stop - start]

    return read


def _line(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
