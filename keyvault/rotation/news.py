"""Have a rotation look at once when a read or a report has brought what it waits for.

Gateways write reads and reports down without knowing of rotations. So the clock
compares them, once a second, with what is awaited, and rings for those whose
state they change. However busy an agent is, it rings no bell itself: a rotation
looks at most once more a second, and not at all when it knows already.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import Exists, OuterRef

from approvals import queue
from keyvault.dependents.models import Health
from keyvault.rotation import evidence, services, sight
from keyvault.rotation.models import Delivery, DeliveryState, Rotation
from keyvault.rotation.saga import State
from keyvault.vault import selectors as versions

# Whoever waits for longer than that many others is looked at by its own job.
MOST = 50
_AWAITED = Delivery.objects.filter(
    state=DeliveryState.RESTARTING,
    has_new=True,
    dependent__health__in=(Health.READS, Health.REPORTS),
)


def hasten() -> int:
    """Ring for each rotation that somebody has just brought further; return for how many. Outermost."""
    waiting = Rotation.objects.filter(
        Exists(_AWAITED.filter(rotation=OuterRef("pk"))),
        state__in=(State.PROMOTING, State.DRAINING),
        new_id__isnull=False,
    )
    rows = [row for row in waiting.order_by("-since", "pk")[:MOST] if _is_news(row)]
    for row in rows:
        with transaction.atomic(durable=True):
            queue.hasten(kind=services.JOB, subject_id=row.pk)
    return len(rows)


def _is_news(rotation: Rotation) -> bool:
    """Say whether anybody who is waited for is further than is written down."""
    deliveries = list(_AWAITED.filter(rotation=rotation).select_related("dependent"))
    new = versions.version(rotation.new_id) if rotation.new_id else None
    heard = evidence.heard(deliveries)
    proofs = evidence.proofs(rotation, deliveries, heard)
    number = new.number if new else None
    return any(
        sight.progress(one, number, proofs, heard, since=rotation.since) != one.state
        for one in deliveries
    )
