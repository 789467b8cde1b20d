"""Read the ledger: pages of a search, the history of one thing, one event with its proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core import signing
from django.db.models import Q, QuerySet

from approvals.ports import Actor
from keyvault.audit import checkpoints, filters, tree
from keyvault.audit.merkle import InvalidProof
from keyvault.audit.models import Event, LedgerLeaf
from keyvault.audit.note import BadNote, Head, read
from keyvault.audit.query import Query
from keyvault.audit.sentences import sentence

PAGE, SUBJECT_LIMIT = 50, 100
_SALT = "audit cursor"


class BadCursor(ValueError):
    """The cursor in an address was not made by this console."""


@dataclass(frozen=True, slots=True)
class Line:
    """One event as a page shows it. `seq` is None until the sequencer has placed it."""

    id: UUID
    seq: int | None
    at: datetime
    event: str
    sentence: str
    outcome: str
    actor: Actor
    subject_kind: str
    subject_id: str
    subject_label: str
    request_id: UUID | None
    ip: str
    on_behalf_of: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """One page, newest first. A cursor is empty where there is nothing further."""

    rows: tuple[Line, ...]
    newer: str
    older: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What stands behind one event, recomputed now. `problem` is empty when all of it agrees."""

    leaf: str
    size: int
    root: str
    path: tuple[str, ...]
    checkpoint: int | None
    signed_at: datetime | None
    problem: str

    @property
    def is_sound(self) -> bool:
        """Say whether leaf, path and signature all agree."""
        return not self.problem and self.checkpoint is not None


@dataclass(frozen=True, slots=True)
class Opened:
    """One event with everything that was recorded, and its proof."""

    line: Line
    entry: Mapping[str, Any]
    proof: Proof


def search(query: Query, *, after: str = "", before: str = "", limit: int = PAGE) -> Page:
    """Return one page of what matches, newest first.

    `after` is the cursor towards older events, `before` the one towards newer.
    Raises filters.Unanswerable, BadCursor.
    """
    matching = matches(query).select_related("leaf")
    if before:
        rows = list(_newer_than(matching, before)[: limit + 1])
        has_newer, has_older = len(rows) > limit, True
        rows = rows[:limit][::-1]
    else:
        rows = list(_older_than(matching, after)[: limit + 1])
        has_newer, has_older = bool(after), len(rows) > limit
        rows = rows[:limit]
    return Page(
        rows=tuple(_line(row) for row in rows),
        newer=_cursor(rows[0]) if rows and has_newer else "",
        older=_cursor(rows[-1]) if rows and has_older else "",
    )


def matches(query: Query) -> QuerySet[Event]:
    """Return every event that matches. Raises filters.Unanswerable."""
    return Event.objects.filter(filters.condition(query))


def for_subject(kind: str, subject_id: str | UUID, limit: int = SUBJECT_LIMIT) -> tuple[Line, ...]:
    """Return the newest events about one thing, newest first."""
    events = Event.objects.filter(subject_kind=kind, subject_id=str(subject_id))
    return _lines(events, limit)


def for_request(request_id: UUID, limit: int = SUBJECT_LIMIT) -> tuple[Line, ...]:
    """Return the newest events that one request caused, newest first."""
    return _lines(Event.objects.filter(request_id=request_id), limit)


def event(seq: int) -> Opened:
    """Return one event and recompute its proof now. Raises Event.DoesNotExist as LookupError."""
    leaf = LedgerLeaf.objects.select_related("event").filter(seq=seq).first()
    if leaf is None:
        raise LookupError(f"there is no event {seq}")
    return Opened(line=_line(leaf.event), entry=leaf.event.entry().to_json(), proof=prove(leaf))


def prove(leaf: LedgerLeaf) -> Proof:
    """Recompute leaf hash, path and checkpoint signature of one event."""
    checkpoint = checkpoints.covering(leaf.seq)
    size = checkpoint.size if checkpoint else tree.state().size
    problem, path, root = "", tuple[bytes, ...](), b""
    try:
        inclusion = tree.inclusion(leaf.seq, size=size)
        path, root = inclusion.path, inclusion.root
        inclusion.check()
        if leaf.event.entry().leaf() != bytes(leaf.leaf_hash):
            problem = "The recorded fields do not match the leaf: this event was edited."
        elif checkpoint:
            _check_signed(checkpoint.note, root)
    except (LookupError, InvalidProof) as error:
        problem = f"The tree does not lead to this event: {error}."
    except (BadNote, checkpoints.NoSigner) as error:
        problem = f"The checkpoint cannot be trusted: {error}"
    return Proof(
        leaf=bytes(leaf.leaf_hash).hex(),
        size=size,
        root=root.hex(),
        path=tuple(node.hex() for node in path),
        checkpoint=checkpoint.number if checkpoint else None,
        signed_at=checkpoint.at if checkpoint else None,
        problem=problem,
    )


def _check_signed(note: str, root: bytes) -> None:
    if Head.parse(read(note, checkpoints.verifier())).root != root:
        raise InvalidProof("the signed root differs from the one recomputed")


def _lines(events: QuerySet[Event], limit: int) -> tuple[Line, ...]:
    newest = events.select_related("leaf").order_by("-at", "-id")[:limit]
    return tuple(_line(row) for row in newest)


def lines(rows: Sequence[Event]) -> Iterator[Line]:
    """Yield rows as pages and exports show them."""
    return (_line(row) for row in rows)


def _line(row: Event) -> Line:
    leaf = getattr(row, "leaf", None)
    return Line(
        id=row.id,
        seq=leaf.seq if leaf else None,
        at=row.at,
        event=row.event,
        sentence=sentence(
            row.event, actor=row.actor_label, subject=row.subject_label, fields=row.fields
        ),
        outcome=row.outcome,
        actor=Actor(row.actor_kind, row.actor_id, row.actor_label),
        subject_kind=row.subject_kind,
        subject_id=row.subject_id,
        subject_label=row.subject_label,
        request_id=row.request_id,
        ip=row.ip,
        on_behalf_of=row.on_behalf_of,
        fields=row.fields,
    )


def _cursor(row: Event) -> str:
    return signing.dumps([row.at.isoformat(), str(row.id)], salt=_SALT)


def _place(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, found = signing.loads(cursor, salt=_SALT)
    except signing.BadSignature as error:
        raise BadCursor("this page address is damaged") from error
    return datetime.fromisoformat(at), UUID(found)


def _older_than(events: QuerySet[Event], cursor: str) -> QuerySet[Event]:
    if cursor:
        at, found = _place(cursor)
        events = events.filter(Q(at__lte=at), Q(at__lt=at) | Q(id__lt=found))
    return events.order_by("-at", "-id")


def _newer_than(events: QuerySet[Event], cursor: str) -> QuerySet[Event]:
    at, found = _place(cursor)
    newer = events.filter(Q(at__gte=at), Q(at__gt=at) | Q(id__gt=found))
    return newer.order_by("at", "id")
