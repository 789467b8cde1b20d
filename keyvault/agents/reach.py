"""What a bearer token reaches: agents and keys, missing and hidden alike.

Rights are read at every call. A token that is narrowed to some keys sees those
alone, whatever its agent is granted.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import Q, QuerySet

from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import ADMINISTRATORS, AUDITORS, User
from keyvault.agents.models import AccessToken, Agent, AgentMembership
from keyvault.inventory.models import Grant, Key, KeyPermission


def visible_agents(person: User) -> QuerySet[Agent]:
    """Return the agents that a person may see: own, those of own teams, by role all."""
    agents = Agent.objects.select_related("owner", "backup_owner", "team__team")
    if not person.is_active:
        return agents.none()
    if people.has_role(person, ADMINISTRATORS, AUDITORS):
        return agents
    groups = [team.group_id for team in people.teams_of(person)]
    return agents.filter(Q(owner=person) | Q(backup_owner=person) | Q(team__in=groups))


def seen_by(token: AccessToken) -> QuerySet[Agent]:
    """Return the agents that the holder of a token may see: an agent sees itself alone."""
    if token.user is not None:
        return visible_agents(token.user)
    agents = Agent.objects.select_related("owner", "backup_owner", "team__team")
    return agents.filter(pk=token.agent.pk) if token.agent else agents.none()


def granted_keys(token: AccessToken, *, now: datetime) -> QuerySet[Key]:
    """Return the keys that an agent's token reaches at this moment."""
    groups = AgentMembership.objects.filter(agent=token.agent_id, left_at=None)
    held = Grant.objects.filter(permission=KeyPermission.USE, ended_at=None, starts_at__lte=now)
    held = held.filter(Q(ends_at=None) | Q(ends_at__gt=now))
    held = held.filter(Q(agent=token.agent_id) | Q(group__in=groups.values("group_id")))
    keys = Key.objects.filter(released_at=None, pk__in=held.values("key_id"))
    return keys if token.keys is None else keys.filter(name__in=token.keys)


def access_granted(token: AccessToken, name: str, *, now: datetime) -> Key:
    """Return a key that an agent's token reaches. Raises NotVisible, whatever the reason."""
    keys = granted_keys(token, now=now).filter(name=name)
    found = keys.select_related(
        "environment", "connection", "owner", "backup_owner", "team__team"
    ).first()
    if found is None:
        raise NotVisible(f"key {name}")
    return found
