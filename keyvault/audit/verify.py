"""Verify the whole ledger against itself and against the checkpoints outside the database.

Every event's bytes are hashed again, every leaf is put into a new tree, every
stored hash and every signed root is compared with that tree. Nothing stored is
believed, and all that is wrong is reported, not the first fault alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keyvault.audit import checkpoints, outside, tree
from keyvault.audit.entries import COLUMNS, Entry
from keyvault.audit.merkle import Frontier, Subtree
from keyvault.audit.models import Checkpoint, Event, LedgerLeaf, LedgerNode
from keyvault.audit.outside import Problem
from keyvault.audit.reads import verify as reads

CHUNK, MAX_PROBLEMS = 2000, 100
LATE = timedelta(minutes=1)  # The sequencer places an event within a second.
CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a verification has come. `events_per_s` is the mean since it began."""

    checked: int
    total: int
    events_per_s: int


@dataclass(slots=True)
class Result:
    """What a verification found: `size` events, `checkpoints` signed heads, `reads` of agents."""

    size: int = 0
    checkpoints: int = 0
    reads: int = 0
    events_per_s: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def is_intact(self) -> bool:
        """Say whether nothing was found."""
        return not self.problems

    def add(self, kind: str, sentence: str, seq: int | None = None) -> None:
        """Note one problem, up to a hundred of them."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(kind, sentence, seq))


Report = Callable[[Progress], None]


def verify(now: datetime, *, report: Report | None = None) -> Result:
    """Verify everything that is sequenced now. `report` is called every 2,000 events.

    Raises checkpoints.NoSigner without the public key to check signatures with.
    """
    began, result = time.monotonic(), Result()
    total = tree.state().size
    heads = _Heads(result)
    growth = _Growth(result, heads)
    for entries in _chunks():
        for seq, leaf, entry in entries:
            growth.take(seq, leaf, entry)
        result.size = growth.frontier.size
        if report:
            report(Progress(result.size, max(total, result.size), _rate(result.size, began)))
    growth.finish(total)
    heads.finish()
    outside.compare(result, checkpoints.sink())
    _check_waiting(result, now)
    result.events_per_s = _rate(result.size, began)

    def beat() -> None:
        if report:
            report(Progress(result.size, result.size, result.events_per_s))

    result.reads = reads.compare(result, now, beat=beat)
    return result


class _Heads:
    """The signed heads of the database, in order, met by the tree as it grows."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self._verifier = checkpoints.verifier()
        self._rows = Checkpoint.objects.order_by("number").iterator(chunk_size=CHUNK)
        self._next = next(self._rows, None)
        self._before: Checkpoint | None = None
        self._has_diverged = False

    def meet(self, frontier: Frontier, at: datetime, *, has_gap: bool) -> None:
        """Check each head that was signed at this size; `at` is the time of the last event.

        After a gap, and after the first root that differs, no later root can
        be right: one fault is reported once.
        """
        while self._next and self._next.size == frontier.size:
            self._check(self._next, at)
            if not (has_gap or self._has_diverged):
                self._compare(self._next, frontier.root())
            self._before, self._next = self._next, next(self._rows, None)
            self._result.checkpoints += 1

    def finish(self) -> None:
        """Report heads over more events than there are, or that go backwards."""
        if self._next:
            self._result.add(
                "truncated",
                f"Checkpoint {self._next.number} covers {self._next.size} events;"
                f" {self._result.size} could be read.",
                self._next.size,
            )

    def _check(self, row: Checkpoint, at: datetime) -> None:
        outside.check_row(self._result, row, checkpoints.head(row), self._verifier)
        if row.number != (self._before.number + 1 if self._before else 1):
            self._result.add("gap", f"A checkpoint before number {row.number} is missing.")
        if at - row.at > CLOCK_TOLERANCE:
            self._result.add(
                "clock",
                f"Event {row.size} is dated after checkpoint {row.number}, which covers it:"
                " a clock was moved.",
                row.size,
            )

    def _compare(self, row: Checkpoint, root: bytes) -> None:
        if bytes(row.root) != root:
            since = self._before.size + 1 if self._before else 1
            self._has_diverged = True
            self._result.add(
                "root",
                f"Events {since} to {row.size} do not lead to the root that"
                f" checkpoint {row.number} signed.",
                since,
            )


class _Growth:
    """A new tree over what is stored, compared step by step with what is stored."""

    def __init__(self, result: Result, heads: _Heads) -> None:
        self._result, self._heads = result, heads
        self.frontier = Frontier()
        self._has_gap = False

    def take(self, seq: int, leaf: bytes, entry: Entry) -> None:
        """Check one event and its leaf, and grow the tree by it."""
        expected = self.frontier.size + 1
        if seq != expected:
            self._result.add("gap", f"Event {expected} is missing: {seq} comes next.", expected)
            self._has_gap = True
            self.frontier = Frontier(seq - 1, [b""] * (seq - 1).bit_count())
        if entry.leaf() != leaf:
            self._result.add("edited", f"Event {seq} does not match its leaf: edited.", seq)
        completed = self.frontier.append(leaf)
        if not self._has_gap:
            self._compare(completed)
        self._heads.meet(self.frontier, entry.at, has_gap=self._has_gap)

    def finish(self, total: int) -> None:
        """Compare the end of the tree with where the sequencer stands."""
        state = tree.state()
        if self.frontier.size < total:
            self._result.add(
                "truncated",
                f"The sequencer placed {total} events; {self.frontier.size} are left.",
                self.frontier.size + 1,
            )
        if self._has_gap or state.size != self.frontier.size:
            return
        if tree.frontier(state).peaks != self.frontier.peaks:
            self._result.add("tree", "The stored tree head disagrees with its leaves.")

    def _compare(self, completed: list[Subtree]) -> None:
        for height, position, node in completed:
            stored = LedgerNode.objects.filter(height=height, index=position).first()
            if stored is None or bytes(stored.hash) != node:
                first, last = (position << height) + 1, (position + 1) << height
                self._result.add(
                    "node", f"The stored hash over events {first} to {last} is wrong.", first
                )


def _chunks() -> Iterator[list[tuple[int, bytes, Entry]]]:
    names = [f"event__{name}" for name in COLUMNS]
    last = 0
    while True:
        rows = (
            LedgerLeaf.objects.filter(seq__gt=last)
            .order_by("seq")
            .values_list("seq", "leaf_hash", *names)[:CHUNK]
        )
        found = [(row[0], bytes(row[1]), Entry._make(row[2:])) for row in rows]
        if not found:
            return
        yield found
        last = found[-1][0]


def _check_waiting(result: Result, now: datetime) -> None:
    late = Event.objects.filter(leaf=None, at__lt=now - LATE).count()
    if late:
        result.add("unplaced", f"{late} events have waited for their place for over a minute.")


def _rate(count: int, began: float) -> int:
    return round(count / max(time.monotonic() - began, 1e-6))
