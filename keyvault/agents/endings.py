"""Take rights from agents at once: end a grant, leave a team. Nobody else is asked.

A right is given by approval and taken by one person with a code. What the page
says afterwards is measured at the gateways.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals import digests, ports
from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.agents import access, memberships
from keyvault.agents.access import AgentPermission
from keyvault.agents.models import Agent
from keyvault.invalidation import services as invalidation
from keyvault.invalidation.services import Effect
from keyvault.inventory import access as keys
from keyvault.inventory import grants
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Grant, KeyPermission


def grant(*, person: User, grant_id: UUID) -> Grant:
    """Return a grant to use a key that this person may end. Raises NotVisible.

    The key's keeper ends every one, and whoever manages an agent ends what it
    holds itself.
    """
    found = (
        Grant.objects.filter(pk=grant_id, permission=KeyPermission.USE, user=None)
        .select_related("key__environment", "agent", "group__team")
        .first()
    )
    if found is None or not _may_end(person, found):
        raise NotVisible(f"grant {grant_id}")
    return found


def holder(found: Grant) -> str:
    """Return who uses a key by a grant, in words."""
    if found.agent is not None:
        return found.agent.name
    return f"the agents of {found.group.team}" if found.group else ""


def grant_digest(found: Grant) -> str:
    """Return what a step-up for ending a grant is bound to."""
    return digests.act_digest(kind="grant.end", grant=str(found.pk))


def end_grant(*, person: User, grant_id: UUID, proof_id: UUID, now: datetime) -> Effect:
    """End a grant now, and return how far that has spread. Raises NotVisible, NotPresent."""
    with transaction.atomic(durable=True):
        found = grant(person=person, grant_id=grant_id)
        inventory.lock(key_id=found.key_id)
        bound = grant_digest(found)
        ports.presence().consume(proof_id, person_id=person.pk, digest=bound, now=now)
        grants.end_grant(grant=found, actor=people.actor(person), now=now)
        xact = invalidation.transaction_id()
    return invalidation.wait(xact)


def leave_digest(agent: Agent, team: str) -> str:
    """Return what a step-up for leaving a team is bound to."""
    return digests.act_digest(kind="agent.leave", agent=str(agent.pk), team=team)


def leave(*, person: User, name: str, team: str, proof_id: UUID, now: datetime) -> Effect:
    """Take an agent out of a team now. Raises NotVisible, NotPresent, memberships.NotMember."""
    with transaction.atomic(durable=True):
        agent = access.access_agent(person, name, AgentPermission.MANAGE)
        bound = leave_digest(agent, team)
        ports.presence().consume(proof_id, person_id=person.pk, digest=bound, now=now)
        group = people.team_by_slug(team).group
        memberships.leave(agent_id=agent.pk, group=group, actor=people.actor(person), now=now)
        xact = invalidation.transaction_id()
    return invalidation.wait(xact)


def _may_end(person: User, found: Grant) -> bool:
    if KeyPermission.MANAGE in keys.permissions(person, found.key):
        return True
    if found.agent is None:
        return False
    return AgentPermission.MANAGE in access.permissions(person, found.agent)
