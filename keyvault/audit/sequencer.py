"""Give each committed event its place in the tree, in batches, one process at a time.

Events are inserted by many transactions at once and one with a lower number
may commit after one with a higher. So a pass never takes "what comes after the
last": it takes what has no leaf. It need not look at the whole table for that.
The oldest transaction that was still open when the last pass looked
(`swept_xact`) bounds from below what can have appeared since: every transaction
before it had ended, and its events were seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from keyvault.audit import tree
from keyvault.audit.entries import COLUMNS, Entry
from keyvault.audit.merkle import Subtree
from keyvault.audit.models import Event, LedgerLeaf, LedgerNode, LedgerTree

LOCK = 0x6B76_0001  # "kv": the advisory lock of the sequencer.
BATCH = 2000
_INSERT_LEAVES = f"""
INSERT INTO {LedgerLeaf._meta.db_table} (seq, event_id, leaf_hash)
SELECT %s + place - 1, id, hash
FROM unnest(%s::uuid[], %s::bytea[]) WITH ORDINALITY AS leaf (id, hash, place)
"""  # noqa: S608, SLF001 - constants of this program; the documented way to a table's name.


@dataclass(frozen=True, slots=True)
class _Horizon:
    """What one snapshot says: below `oldest_open` all transactions have ended, from `next` none has.

    The caller's own transaction counts as ended, so that it sees its own events.
    """

    oldest_open: int
    next: int
    cluster: str


def run_once(*, limit: int = BATCH) -> int:
    """Sequence up to `limit` events in one transaction; return how many.

    Returns 0 at once while another process holds the lock. A crash at any
    point leaves either the whole batch or nothing.
    """
    with transaction.atomic(durable=True):
        if not _locked():
            return 0
        state = tree.state()
        horizon = _horizon()
        events = _next(state, horizon, limit)
        _append(state, [entry for _, entry in events])
        _sweep(state, horizon, [xact for xact, _ in events], is_full=len(events) == limit)
        return len(events)


def drain() -> int:
    """Sequence everything that is committed; return how many events that were."""
    total = 0
    while done := run_once():
        total += done
    return total


def waiting() -> QuerySet[Event]:
    """Return the committed events that have no place yet."""
    return _without_leaf(tree.state(), _horizon())


def _locked() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def _horizon() -> _Horizon:
    """Read the snapshot first: the scan that follows sees at least what this one does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_snapshot_xmin(s)::text::bigint, greatest(pg_snapshot_xmax(s)::text::bigint,"
            " pg_current_xact_id_if_assigned()::text::bigint + 1),"
            " (SELECT system_identifier::text FROM pg_control_system())"
            " FROM pg_current_snapshot() AS s"
        )
        return _Horizon(*cursor.fetchone())


def _without_leaf(state: LedgerTree, horizon: _Horizon) -> QuerySet[Event]:
    has_leaf = Exists(LedgerLeaf.objects.filter(event_id=OuterRef("pk")))
    events = Event.objects.filter(~has_leaf).order_by("xact", "at", "id")
    if state.cluster != horizon.cluster:
        # Restored into another cluster, whose transaction numbers mean nothing here.
        return events
    return events.filter(xact__gte=state.swept_xact, xact__lt=horizon.next)


def _next(state: LedgerTree, horizon: _Horizon, limit: int) -> list[tuple[int, Entry]]:
    """Return the next events, each behind the number of its transaction."""
    rows = _without_leaf(state, horizon).values_list("xact", *COLUMNS)[:limit]
    return [(xact, Entry(*columns)) for xact, *columns in rows]


def _append(state: LedgerTree, entries: Sequence[Entry]) -> None:
    if not entries:
        return
    frontier = tree.frontier(state)
    first = frontier.size + 1
    leaves, nodes = [entry.leaf() for entry in entries], list[Subtree]()
    for leaf in leaves:
        nodes += frontier.append(leaf)
    with connection.cursor() as cursor:
        # One statement of one shape: an INSERT of as many rows is compiled anew for each batch.
        cursor.execute(_INSERT_LEAVES, [first, [entry.id for entry in entries], leaves])
    LedgerNode.objects.bulk_create(
        LedgerNode(height=node.height, index=node.position, hash=node.hash) for node in nodes
    )
    state.size, state.peaks = frontier.size, b"".join(frontier.peaks)


def _sweep(state: LedgerTree, horizon: _Horizon, xacts: Sequence[int], *, is_full: bool) -> None:
    is_at_home = state.cluster == horizon.cluster
    if not is_full:
        state.swept_xact, state.cluster = horizon.oldest_open, horizon.cluster
    elif is_at_home:
        # The batch may have ended inside this transaction: its other events are still to come.
        state.swept_xact = min(horizon.oldest_open, xacts[-1])
    if xacts or not is_at_home:
        state.save()
