"""What the address of a dependent adds to its proof: it has moved only when it is well since.

The place, the read or the report says which version it has; the address says
whether it is well with it. An answer that does not come, or one bad answer,
changes nothing: only who was well before the move and has answered badly again
and again since is stuck (ROTATION.md, rules 4 and 9).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from keyvault.rotation.models import DeliveryState

if TYPE_CHECKING:
    from keyvault.dependents.models import Probe
    from keyvault.rotation.models import Delivery

# A restart answers badly for some seconds and is no illness.
BAD_MOST, BAD_FOR = 3, timedelta(seconds=30)
_MOVING = frozenset({DeliveryState.RESTARTING, DeliveryState.CONFIRMED})


def with_health(
    found: DeliveryState,
    delivery: Delivery,
    probe: Probe | None,
    *,
    number: int | None,
    since: datetime,
) -> DeliveryState:
    """Return how far a dependent is, once its address has been heard.

    found: how far it is by its proof. number: the new version's. since: when the
    rotation came to where it is; what was bad before has another chance.
    """
    if probe is None or not delivery.has_new or found not in _MOVING:
        return found
    if delivery.was_healthy and is_stuck(probe, since):
        return DeliveryState.FAILED
    if found is DeliveryState.CONFIRMED and not _is_well(probe, delivery, number):
        return DeliveryState.RESTARTING
    return found


def is_stuck(probe: Probe, since: datetime) -> bool:
    """Say whether an address that was well once has answered badly again and again, for long enough."""
    if probe.healthy_at is None:
        return False
    if probe.bad_count < BAD_MOST or probe.bad_since is None or probe.bad_at is None:
        return False
    return probe.bad_at - max(probe.bad_since, since) >= BAD_FOR


def names_other(probe: Probe | None, number: int | None, *, after: datetime) -> bool:
    """Say whether an address has named another version than this, after a moment."""
    if probe is None or probe.named_at is None or probe.named_at <= after:
        return False
    return probe.number != number


def _is_well(probe: Probe, delivery: Delivery, number: int | None) -> bool:
    """Say whether an address has answered well since the move, and named no other version."""
    given_at = delivery.given_at
    if given_at is None or probe.healthy_at is None or probe.healthy_at <= given_at:
        return False
    return not names_other(probe, number, after=given_at)
