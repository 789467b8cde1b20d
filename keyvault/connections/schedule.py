"""When each Connection is looked at next."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.db.models.functions import Least

from keyvault.connections import kinds
from keyvault.connections.models import Connection

# A credential that nobody owns is seen within one period; the promise is 15 minutes.
PERIOD = timedelta(minutes=10)
SOON = timedelta(seconds=30)
_AT_ONCE = 100


def look_soon(*, connection_id: UUID, now: datetime) -> None:
    """Bring the next look forward: something may have been left behind."""
    Connection.objects.filter(pk=connection_id).update(
        inventory_due_at=Least("inventory_due_at", now + SOON)
    )


def due(now: datetime) -> list[UUID]:
    """Return the Connections whose look is due, the longest waiting first.

    Nothing is issued by a destination, so none of it can be listed.
    """
    rows = Connection.objects.filter(inventory_due_at__lte=now).order_by("inventory_due_at")
    rows = rows.exclude(provider__in=list(kinds.destination_kinds()))
    return list(rows.values_list("pk", flat=True)[:_AT_ONCE])


def take(*, connection_id: UUID, now: datetime) -> None:
    """Put the next look one period ahead."""
    Connection.objects.filter(pk=connection_id).update(inventory_due_at=now + PERIOD)
