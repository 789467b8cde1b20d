"""What a bearer token reaches: agents and keys, missing and hidden alike.

Rights are read at every call. A token that is narrowed to some keys sees those
alone, whatever its agent is granted.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from approvals.ports import NotVisible
from keyvault.agents import access, selectors, tokens
from keyvault.agents.models import AccessToken, Agent
from keyvault.inventory.models import Key


def holds_still(token: AccessToken, *, now: datetime) -> bool:
    """Say whether a token that was let in a while ago, and its holder, are in force now."""
    fresh = AccessToken.objects.select_related("agent", "user").filter(pk=token.pk).first()
    return fresh is not None and tokens.holds(fresh, now=now)


def seen_by(token: AccessToken) -> QuerySet[Agent]:
    """Return the agents that the holder of a token may see: an agent sees itself alone."""
    if token.user is None:
        agents = Agent.objects.filter(tokens=token)
    else:
        agents = access.visible_agents(token.user)
    return agents.select_related("owner", "backup_owner", "team__team")


def granted_keys(token: AccessToken, *, now: datetime) -> QuerySet[Key]:
    """Return the keys that an agent's token reaches at this moment."""
    keys = Key.objects.filter(released_at=None)
    if token.agent is None:
        return keys.none()
    held = selectors.grants_of(token.agent, now=now).order_by().values("key_id")
    keys = keys.filter(pk__in=held)
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
