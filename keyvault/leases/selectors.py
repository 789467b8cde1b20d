"""Read leases, and say which of them have lost the right they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from approvals.ports import NotVisible
from keyvault.agents import selectors as agents
from keyvault.agents.models import AccessToken, Agent, AgentMembership, AgentState
from keyvault.inventory.models import Key, KeyState
from keyvault.leases.models import LIVING, Lease, LeaseState

SHOWN = 50
LATELY = timedelta(days=30)


def lease(lease_id: UUID) -> Lease:
    """Return one lease without a gate; for services and workers only. Raises NotVisible."""
    found = _all().filter(pk=lease_id).first()
    if found is None:
        raise NotVisible(f"lease {lease_id}")
    return found


def lock(lease_id: UUID) -> Lease:
    """Return a lease under its row lock, in the caller's transaction. Raises NotVisible."""
    found = _all().select_for_update(of=("self",)).filter(pk=lease_id).first()
    if found is None:
        raise NotVisible(f"lease {lease_id}")
    return found


def own(token: AccessToken, lease_id: UUID) -> Lease:
    """Return a lease of the token's agent, of a key that the token reaches. Raises NotVisible."""
    found = owned(token).filter(pk=lease_id).first()
    if found is None:
        raise NotVisible(f"lease {lease_id}")
    return found


def owned(token: AccessToken) -> QuerySet[Lease]:
    """Return the leases of the token's agent: those of the keys that the token is narrowed to.

    They stay to be seen when the right to the key has gone.
    """
    if token.agent_id is None:
        return Lease.objects.none()
    rows = _all().filter(agent=token.agent_id)
    return rows if token.keys is None else rows.filter(key__name__in=token.keys)


def owned_before(
    token: AccessToken, *, state: str, key: str, mark: str, most: int
) -> Sequence[Lease]:
    """Return leases of the token's agent, newest first, from behind a mark."""
    rows = owned(token)
    if state:
        rows = rows.filter(state=state)
    if key:
        rows = rows.filter(key__name=key)
    if mark:
        at, _, row_id = mark.partition("|")
        moment = datetime.fromisoformat(at)
        rows = rows.filter(Q(created_at__lt=moment) | Q(created_at=moment, pk__gt=UUID(row_id)))
    return list(rows.order_by("-created_at", "pk")[:most])


def mark_of(row: Lease) -> str:
    """Return what the next page begins behind."""
    return f"{row.created_at.isoformat()}|{row.pk}"


def of_key(key_id: UUID) -> Sequence[Lease]:
    """Return the leases of a key, those that live first and then the newest."""
    return _shown(_all().filter(key=key_id))


def of_agent(agent_id: UUID, *, keys: QuerySet[Key] | None = None) -> Sequence[Lease]:
    """Return the leases of an agent, those that live first and then the newest.

    keys: those whose leases are meant; None means all.
    """
    rows = _all().filter(agent=agent_id)
    return _shown(rows if keys is None else rows.filter(key__in=keys.values("pk")))


def living_count(key_id: UUID) -> int:
    """Return how many leases of a key have not ended."""
    return Lease.objects.filter(key=key_id, state__in=LIVING).count()


def holders_lately(key_id: UUID) -> Sequence[str]:
    """Return the names of agents that took a lease in the last 30 days by the database's clock."""
    rows = Lease.objects.filter(key=key_id, taken_at__gte=Now() - LATELY)
    return list(rows.order_by().values_list("agent__name", flat=True).distinct()[:SHOWN])


def is_allowed(lease_id: UUID, *, now: datetime) -> bool:
    """Say whether a lease's agent may still use its key."""
    return _allowed(Lease.objects.filter(pk=lease_id), now=now).exists()


def lost(*, now: datetime, most: int) -> Sequence[UUID]:
    """Return the open leases whose agent may not use their key any more."""
    open_ones = Lease.objects.filter(state=LeaseState.OPEN)
    still = _allowed(open_ones, now=now).values("pk")
    return list(open_ones.exclude(pk__in=still).values_list("pk", flat=True)[:most])


def why_not(row: Lease) -> str:
    """Say why a lease may not be held any more, as things stand now."""
    agent, key = Agent.objects.get(pk=row.agent_id), Key.objects.get(pk=row.key_id)
    if agent.state != AgentState.ACTIVE:
        return f"{agent.name} is {agent.get_state_display().lower()}."
    if key.state != KeyState.LIVE:
        return f"{key.name} is {key.get_state_display().lower()}."
    return f"{agent.name} may not use {key.name} any more."


def _allowed(rows: QuerySet[Lease], *, now: datetime) -> QuerySet[Lease]:
    """Narrow to leases of active agents that may use their key, which lives, by some grant."""
    groups = AgentMembership.objects.filter(agent=OuterRef(OuterRef("agent")), left_at=None)
    held = agents.grants_in_force(now=now, key=OuterRef("key")).filter(
        Q(agent=OuterRef("agent")) | Q(group__in=groups.values("group"))
    )
    return rows.filter(
        Exists(held.order_by()), agent__state=AgentState.ACTIVE, key__state=KeyState.LIVE
    )


def _shown(rows: QuerySet[Lease]) -> Sequence[Lease]:
    living = list(rows.filter(state__in=LIVING).order_by("-created_at", "pk")[:SHOWN])
    ended = rows.exclude(state__in=LIVING).order_by("-created_at", "pk")
    return [*living, *ended[: SHOWN - len(living)]]


def _all() -> QuerySet[Lease]:
    return Lease.objects.select_related("agent__owner", "key__connection", "key__environment")
