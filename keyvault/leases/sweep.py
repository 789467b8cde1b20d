"""Go through the leases that live, every second: end what is over, or has lost its right.

This is the kill switch, too. It looks at the rights as they are and not at what took
them, so that no way of taking one can forget the leases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from keyvault.leases import endings, selectors, terms
from keyvault.leases.models import Lease, LeaseState

AT_ONCE = 200
# As long as the sums of their use.
KEEP = timedelta(days=400)
FORGOTTEN_AT_ONCE = 5000
_UNHEARD = "Whoever asked for it has gone before the provider's answer was noted."


def run(now: datetime) -> int:
    """Do what is due, at most 200 leases of each kind; return how many were moved."""
    living = Lease.objects.order_by("expires_at", "pk")
    stale = living.filter(state=LeaseState.MINTING, created_at__lte=now - terms.GIVEN_UP)
    over = living.filter(state=LeaseState.OPEN, expires_at__lte=now)
    gone = living.filter(
        state__in=(LeaseState.ENDING, LeaseState.ORPHANED),
        lapses_at__lte=now,
    )
    return (
        _each(_ids(stale), lambda row: _orphan(row, now))
        + _each(_ids(over), lambda row: _expire(row, now))
        + _each(selectors.lost(now=now, most=AT_ONCE), lambda row: _withdraw(row, now))
        + sum(_lapse(lease_id, now) for lease_id in _ids(gone))
    )


def forget(*, now: datetime) -> int:
    """Delete leases that ended 400 days ago, some at a time; the ledger keeps what became of them."""
    old = Lease.objects.filter(ended_at__lt=now - KEEP).values("pk")[:FORGOTTEN_AT_ONCE]
    return Lease.objects.filter(pk__in=old).delete()[0]


def _ids(rows: QuerySet[Lease]) -> list[UUID]:
    return [row.pk for row in rows[:AT_ONCE]]


def _each(ids: Iterable[UUID], act: Callable[[Lease], bool]) -> int:
    """Do something to each lease under its lock, in a transaction of its own; count what it did."""
    done = 0
    for lease_id in ids:
        with transaction.atomic(durable=True):
            done += act(selectors.lock(lease_id))
    return done


def _orphan(row: Lease, now: datetime) -> bool:
    if row.state != LeaseState.MINTING:
        return False
    endings.orphan(row, code="unheard", sentence=_UNHEARD, now=now)
    return True


def _expire(row: Lease, now: datetime) -> bool:
    # Its agent may have made it last longer, or returned it, since the look.
    if row.state != LeaseState.OPEN or row.expires_at > now:
        return False
    endings.promise(row, LeaseState.EXPIRED, cause="", actor=endings.WORKER, now=now)
    return True


def _withdraw(row: Lease, now: datetime) -> bool:
    if row.state != LeaseState.OPEN or selectors.is_allowed(row.pk, now=now):
        return False
    cause = selectors.why_not(row)
    endings.promise(row, LeaseState.WITHDRAWN, cause=cause, actor=endings.WORKER, now=now)
    return True


def _lapse(lease_id: UUID, now: datetime) -> bool:
    """Note that the provider has ended what nobody here could end."""
    endings.settle(lease_id, actor=endings.WORKER, now=now, note=endings.LAPSED)
    return True
