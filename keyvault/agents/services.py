"""Change agents: register, describe, suspend, resume, retire. Each writes its ledger line.

Inner writers: the caller owns the transaction. Registering gives no right to
any key: that takes a grant, and a grant takes an approval.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction

from approvals.ports import Actor, NotVisible, Subject
from keyvault.accounts.models import User
from keyvault.agents.models import Agent, AgentState
from keyvault.audit import ledger
from keyvault.inventory import naming

# The console's own addresses below /agents/.
_TAKEN = frozenset({"new"})
_EVENTS = {
    AgentState.ACTIVE: "agent.resumed",
    AgentState.SUSPENDED: "agent.suspended",
    AgentState.RETIRED: "agent.retired",
}


class NameTaken(Exception):
    """Another agent has this name, or had it; a name is never used for two agents."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The name {name} is taken. Choose another one.")
        self.name = name


class Retired(Exception):
    """The agent was retired, which is for good."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(f"{agent.name} was retired. Register a new agent instead.")


def subject(agent: Agent) -> Subject:
    """Return the snapshot of an agent that the ledger keeps."""
    return Subject("agent", str(agent.pk), agent.name)


def register(
    *,
    name: str,
    title: str,
    purpose: str,
    owner: User,
    team: Group,
    reads_outside_text: bool,
    now: datetime,
    actor: Actor,
    backup_owner: User | None = None,
) -> Agent:
    """Make an agent that may do nothing yet. Raises naming.BadName, NameTaken."""
    if naming.fold(name) in _TAKEN:
        raise NameTaken(naming.fold(name))
    agent = Agent(
        name=naming.key_name(name),
        title=title,
        purpose=purpose,
        owner=owner,
        backup_owner=backup_owner,
        team=team,
        reads_outside_text=reads_outside_text,
        created_at=now,
        state_changed_at=now,
    )
    try:
        # A savepoint: the caller's transaction outlives the refusal.
        with transaction.atomic():
            agent.save(force_insert=True)
    except IntegrityError as error:
        raise NameTaken(agent.name) from error
    fields = {
        "team": team.name,
        "owner": str(owner.pk),
        "backup_owner": str(backup_owner.pk) if backup_owner else None,
        "reads_outside_text": reads_outside_text,
    }
    ledger.record("agent.registered", actor=actor, subject=subject(agent), now=now, fields=fields)
    return agent


def describe(
    *,
    agent_id: UUID,
    title: str,
    purpose: str,
    reads_outside_text: bool,
    actor: Actor,
    now: datetime,
) -> Agent:
    """Change what people read about an agent; what is the same already changes nothing.

    The mark "reads outside text" can be set and never taken off: approvers have
    judged by it. Raises NotVisible, Retired.
    """
    agent = lock(agent_id=agent_id)
    if agent.state == AgentState.RETIRED:
        raise Retired(agent)
    wanted = {
        "title": title,
        "purpose": purpose,
        "reads_outside_text": agent.reads_outside_text or reads_outside_text,
    }
    changed = sorted(name for name, value in wanted.items() if getattr(agent, name) != value)
    if changed:
        for name in changed:
            setattr(agent, name, wanted[name])
        agent.save(update_fields=changed)
        fields = {"fields": changed}
        ledger.record("agent.changed", actor=actor, subject=subject(agent), now=now, fields=fields)
    return agent


def lock(*, agent_id: UUID) -> Agent:
    """Return an agent under a row lock, inside the caller's transaction. Raises NotVisible."""
    agent = Agent.objects.select_for_update().filter(pk=agent_id).first()
    if agent is None:
        raise NotVisible(f"agent {agent_id}")
    return agent


def set_state(
    *,
    agent_id: UUID,
    state: str,
    cause: str,
    actor: Actor,
    now: datetime,
    contains: bool = False,
) -> Agent:
    """Suspend, resume or retire an agent. The state it has already changes nothing.

    contains: somebody on duty suspends it; said again of an agent that its owner
    had suspended, it keeps the owner from lifting that. A suspended agent's
    tokens stay, and open nothing while it is suspended. Raises NotVisible, Retired.
    """
    agent = lock(agent_id=agent_id)
    if agent.state == state and (agent.contained or not contains):
        return agent
    if agent.state == AgentState.RETIRED:
        raise Retired(agent)
    agent.state, agent.state_cause, agent.state_changed_at = state, cause[:200], now
    agent.contained = contains and state == AgentState.SUSPENDED
    agent.save(update_fields=["state", "state_cause", "state_changed_at", "contained"])
    fields = {"cause": cause[:200]}
    event = _EVENTS[AgentState(state)]
    ledger.record(event, actor=actor, subject=subject(agent), now=now, fields=fields)
    return agent
