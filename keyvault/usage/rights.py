"""Who may use a key and who might, by grants of now and of before: reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Q

from keyvault.accounts.models import User
from keyvault.inventory.models import Grant, Key, KeyPermission

if TYPE_CHECKING:
    from keyvault.agents.models import Agent

REMEMBERED = timedelta(days=30)
_OPEN = None

Pair = tuple[UUID, UUID]


def keys_of(
    principal: Agent | User, names: Collection[str], *, now: datetime
) -> Mapping[str, UUID]:
    """Return the ids of those of the named keys that a principal may report the use of, by name.

    An agent may for 30 days longer than it may use them: whoever keeps a value
    after the right to it has ended is whom we want to hear of.
    """
    found = Grant.objects.filter(key__name__in=names, key__released_at=None, starts_at__lte=now)
    return dict(found.filter(_held_by(principal, now)).values_list("key__name", "key_id"))


def _held_by(principal: Agent | User, now: datetime) -> Q:
    if isinstance(principal, User):
        held = Q(user=principal) | Q(group__in=principal.groups.values("pk"))
        wanted = Q(permission__in=[KeyPermission.USE, KeyPermission.REVEAL])
        return held & wanted & _since(now)
    stays = principal.memberships.filter(Q(left_at=None) | Q(left_at__gt=now - REMEMBERED))
    held = Q(agent=principal) | Q(group__in=stays.values("group_id"))
    return held & Q(permission=KeyPermission.USE) & _since(now - REMEMBERED)


def _since(moment: datetime) -> Q:
    """Return the condition that a grant still held after a moment."""
    return (Q(ended_at=None) | Q(ended_at__gt=moment)) & (Q(ends_at=None) | Q(ends_at__gt=moment))


def held_until(
    key_ids: Collection[UUID], agent_ids: Collection[UUID]
) -> Mapping[Pair, datetime | None]:
    """Return until when each agent could use each key, None while that is open.

    A pair that is missing never had a right. What ends first counts: the grant,
    its own end date, or the agent's stay in the group that holds it.
    """
    wanted = Grant.objects.filter(key__in=key_ids, permission=KeyPermission.USE)
    direct = wanted.filter(agent__in=agent_ids).values_list(
        "key_id", "agent_id", "ended_at", "ends_at"
    )
    stay = "group__agent_memberships"
    grouped = wanted.filter(**{f"{stay}__agent__in": agent_ids}).values_list(
        "key_id", f"{stay}__agent_id", "ended_at", "ends_at", f"{stay}__left_at"
    )
    return _latest([*direct, *grouped])


def _latest(
    rows: Iterable[tuple[UUID, UUID, *tuple[datetime | None, ...]]],
) -> dict[Pair, datetime | None]:
    found: dict[Pair, datetime | None] = {}
    for key_id, agent_id, *ends in rows:
        end = min((moment for moment in ends if moment is not None), default=_OPEN)
        pair = (key_id, agent_id)
        if pair not in found:
            found[pair] = end
        else:
            before = found[pair]
            found[pair] = max(before, end) if before is not None and end is not None else _OPEN
    return found


def keys_by_id(key_ids: Collection[UUID]) -> Mapping[UUID, Key]:
    """Return keys by their id, whatever their state."""
    return Key.objects.in_bulk(list(key_ids))
