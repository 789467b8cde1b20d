"""Let agents join and leave groups, so that what a group may use reaches them.

Inner writers: the caller owns the transaction. A membership is never changed or
deleted, only ended.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import Group

from approvals.ports import Actor
from keyvault.agents import services
from keyvault.agents.models import Agent, AgentMembership, AgentState
from keyvault.audit import ledger


class NotMember(Exception):
    """The agent does not belong to this group."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(f"{agent.name} does not belong to this group.")


def join(
    *, agent_id: UUID, group: Group, request_id: UUID, actor: Actor, now: datetime
) -> AgentMembership:
    """Let an agent join a group; a member it is already stays one.

    Raises NotVisible, services.Retired.
    """
    agent = services.lock(agent_id=agent_id)
    if agent.state == AgentState.RETIRED:
        raise services.Retired(agent)
    held = agent.memberships.filter(group=group, left_at=None).first()
    if held is not None:
        return held
    made = AgentMembership.objects.create(
        agent=agent, group=group, joined_at=now, request_id=request_id
    )
    _record("agent.joined", agent, group, actor=actor, now=now, request_id=request_id)
    return made


def leave(*, agent_id: UUID, group: Group, actor: Actor, now: datetime) -> None:
    """End an agent's stay in a group. Raises NotVisible, NotMember."""
    agent = services.lock(agent_id=agent_id)
    stay = AgentMembership.objects.filter(agent=agent, group=group, left_at=None)
    if not stay.update(left_at=now):
        raise NotMember(agent)
    _record("agent.left", agent, group, actor=actor, now=now)


def leave_all(*, agent: Agent, actor: Actor, now: datetime) -> None:
    """End every stay of an agent that is over."""
    for stay in agent.memberships.filter(left_at=None).select_related("group"):
        leave(agent_id=agent.pk, group=stay.group, actor=actor, now=now)


def _record(
    event: str,
    agent: Agent,
    group: Group,
    *,
    actor: Actor,
    now: datetime,
    request_id: UUID | None = None,
) -> None:
    ledger.record(
        event,
        actor=actor,
        subject=services.subject(agent),
        now=now,
        fields={"group": group.name},
        request_id=request_id,
    )
