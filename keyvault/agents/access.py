"""The one gate to agents: what a person may do with one, and which ones they may see.

Owner and backup owner answer for an agent, and only they give it ways to prove
itself: whoever adds one can read, through the agent, every key that it may use
(R34). An administrator therefore manages an agent and never equips it. The team
sees it, auditors see every agent, and whoever is on duty can stop every one.
While one of the two is active, only they ask for another owner; once neither
is, an administrator or a member of the team does, so that no agent is stuck.
"""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from django.db.models import Q, QuerySet

from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import ADMINISTRATORS, AUDITORS, RESPONDERS, User
from keyvault.agents.models import Agent


class AgentPermission(StrEnum):
    """What a person may do with one agent."""

    VIEW = "view"
    SUSPEND = "suspend"
    MANAGE = "manage"
    EQUIP = "equip"
    HAND_OVER = "hand_over"


OWNER_PERMISSIONS = frozenset(AgentPermission)
TEAM_PERMISSIONS = frozenset({AgentPermission.VIEW})
ROLE_PERMISSIONS: dict[str, frozenset[AgentPermission]] = {
    AUDITORS: frozenset({AgentPermission.VIEW}),
    RESPONDERS: frozenset({AgentPermission.VIEW, AgentPermission.SUSPEND}),
    ADMINISTRATORS: OWNER_PERMISSIONS - {AgentPermission.EQUIP, AgentPermission.HAND_OVER},
}
ON_DUTY = (ADMINISTRATORS, RESPONDERS)


def access_agent(person: User, reference: UUID | str, permission: str) -> Agent:
    """Return the agent with this id or exact name, if the person has `permission` on it.

    Raises NotVisible: the same for an agent that does not exist, that the person
    may not see, or may not treat so.
    """
    agent = find(reference)
    if agent is None or permission not in permissions(person, agent):
        raise NotVisible(f"agent {reference}")
    return agent


def find(reference: UUID | str) -> Agent | None:
    """Return an agent by id or exact name, without a gate; for actions and other gates only."""
    by = {"pk": reference} if isinstance(reference, UUID) else {"name": reference}
    agents = Agent.objects.select_related("owner", "backup_owner", "team__team")
    return agents.filter(**by).first()


def permissions(person: User, agent: Agent) -> frozenset[AgentPermission]:
    """Return what a person may do with an agent at this moment."""
    if not person.is_active:
        return frozenset()
    held = frozenset[AgentPermission]().union(*_by_role(person))
    if answers_for(person, agent):
        return held | OWNER_PERMISSIONS
    in_team = _in_team(person, agent)
    if in_team:
        held |= TEAM_PERMISSIONS
    if is_orphan(agent) and (in_team or people.has_role(person, ADMINISTRATORS)):
        held |= {AgentPermission.HAND_OVER}
    return held


def answers_for(person: User, agent: Agent) -> bool:
    """Say whether a person owns an agent or stands in for its owner."""
    return person.pk in {agent.owner_id, agent.backup_owner_id}


def is_orphan(agent: Agent) -> bool:
    """Say whether nobody who is active owns an agent or stands in for its owner."""
    backup = agent.backup_owner
    return not agent.owner.is_active and not (backup is not None and backup.is_active)


def is_on_duty(person: User, agent: Agent) -> bool:
    """Say whether a person has a duty to contain, and no stake in this agent."""
    return people.has_role(person, *ON_DUTY) and not answers_for(person, agent)


def visible_agents(person: User) -> QuerySet[Agent]:
    """Return the agents that a person may see now; every list starts from here."""
    agents = Agent.objects.all()
    if not person.is_active:
        return agents.none()
    if _by_role(person):
        return agents
    teams = people.teams_of(person).values("group_id")
    return agents.filter(Q(owner=person) | Q(backup_owner=person) | Q(team__in=teams))


def _in_team(person: User, agent: Agent) -> bool:
    return people.teams_of(person).filter(group=agent.team_id).exists()


def _by_role(person: User) -> list[frozenset[AgentPermission]]:
    held = people.roles(person)
    return [rights for role, rights in ROLE_PERMISSIONS.items() if role in held]
