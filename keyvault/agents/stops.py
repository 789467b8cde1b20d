"""Stop an agent at once, let it work again, or retire it: acts of one person, each with a code.

Nobody else is asked, because a stop must not wait. What the page says afterwards
is measured: the change is committed, and then every gateway has confirmed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from approvals import digests, ports
from approvals.ports import Actor, NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.agents import access, bindings, clients, memberships, services, tokens
from keyvault.agents.access import AgentPermission
from keyvault.agents.models import Agent, AgentState
from keyvault.invalidation import services as invalidation
from keyvault.inventory import grants
from keyvault.inventory.models import Grant

SUSPEND, RESUME, RETIRE = "agent.suspend", "agent.resume", "agent.retire"
NEEDS = {
    SUSPEND: AgentPermission.SUSPEND,
    RESUME: AgentPermission.SUSPEND,
    RETIRE: AgentPermission.MANAGE,
}


class Contained(Exception):
    """Somebody on duty has suspended the agent, so its owner cannot lift that."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(
            f"{agent.name} was suspended by somebody on duty. A responder or an administrator "
            "who neither owns it nor stands in for its owner can let it work again."
        )


class NotStopped(Exception):
    """The agent is not suspended, so there is nothing to lift."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(f"{agent.name} is {agent.get_state_display().lower()}.")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an agent, and how far that has spread."""

    agent: Agent
    effect: invalidation.Effect


def digest(act: str, agent: Agent) -> str:
    """Return what a step-up for an act on an agent is bound to: its state at this moment, too."""
    since = agent.state_changed_at.isoformat()
    return digests.act_digest(kind=act, agent=str(agent.pk), state=agent.state, since=since)


def may_resume(person: User, agent: Agent) -> bool:
    """Say whether a person may lift this suspension.

    One by its owner is lifted by whoever manages it. One by somebody on duty is
    lifted by somebody on duty without a stake in the agent: an owner, or whoever
    took the owner's account over, must not undo a containment.
    """
    if agent.state != AgentState.SUSPENDED:
        return False
    if agent.contained:
        return access.is_on_duty(person, agent)
    return AgentPermission.MANAGE in access.permissions(person, agent)


def suspend(*, person: User, name: str, cause: str, proof_id: UUID, now: datetime) -> Result:
    """Stop an agent: from now on its tokens open nothing, and it gets no new one.

    Raises NotVisible, NotPresent, services.Retired.
    """
    with transaction.atomic(durable=True):
        agent = _begin(SUSPEND, person, name, proof_id=proof_id, now=now)
        agent = services.set_state(
            agent_id=agent.pk,
            state=AgentState.SUSPENDED,
            cause=cause,
            actor=people.actor(person),
            now=now,
            contains=access.is_on_duty(person, agent),
        )
        xact = invalidation.transaction_id()
    return Result(agent, invalidation.wait(xact))


def resume(*, person: User, name: str, cause: str, proof_id: UUID, now: datetime) -> Result:
    """Let a suspended agent work again, with the tokens that have not run out.

    Raises NotVisible, NotPresent, NotStopped, Contained.
    """
    with transaction.atomic(durable=True):
        agent = _begin(RESUME, person, name, proof_id=proof_id, now=now)
        if agent.state != AgentState.SUSPENDED:
            raise NotStopped(agent)
        if not may_resume(person, agent):
            if agent.contained:
                raise Contained(agent)
            raise NotVisible(f"agent {name}")
        agent = services.set_state(
            agent_id=agent.pk,
            state=AgentState.ACTIVE,
            cause=cause,
            actor=people.actor(person),
            now=now,
        )
        xact = invalidation.transaction_id()
    return Result(agent, invalidation.wait(xact))


def retire(*, person: User, name: str, cause: str, proof_id: UUID, now: datetime) -> Result:
    """End an agent for good, with its grants, memberships, tokens and ways to authenticate.

    Raises NotVisible, NotPresent, services.Retired.
    """
    with transaction.atomic(durable=True):
        agent = _begin(RETIRE, person, name, proof_id=proof_id, now=now)
        actor = people.actor(person)
        agent = services.set_state(
            agent_id=agent.pk, state=AgentState.RETIRED, cause=cause, actor=actor, now=now
        )
        _end_all(agent, actor, now)
        xact = invalidation.transaction_id()
    return Result(agent, invalidation.wait(xact))


def _begin(act: str, person: User, name: str, *, proof_id: UUID, now: datetime) -> Agent:
    """Lock the agent, and use up a proof that is bound to it as it stands.

    Raises NotVisible, NotPresent, services.Retired.
    """
    found = access.access_agent(person, name, NEEDS[act])
    agent = services.lock(agent_id=found.pk)
    if agent.state == AgentState.RETIRED:
        raise services.Retired(agent)
    bound = digest(act, agent)
    ports.presence().consume(proof_id, person_id=person.pk, digest=bound, now=now)
    return agent


def _end_all(agent: Agent, actor: Actor, now: datetime) -> None:
    """End whatever a retired, locked agent held: grants, then bindings, then tokens, oldest first.

    Whoever ends several of them elsewhere takes them in the same order.
    """
    held = Grant.objects.filter(agent=agent, ended_at=None).select_related("key", "agent")
    for row in held.order_by("starts_at", "pk"):
        grants.end_grant(grant=row, actor=actor, now=now)
    memberships.leave_all(agent=agent, actor=actor, now=now)
    for client in agent.clients.filter(ended_at=None).order_by("created_at", "pk"):
        clients.end(client_id=client.pk, cause="agent retired", actor=actor, now=now)
    for binding in agent.bindings.filter(ended_at=None).order_by("created_at", "pk"):
        bindings.end(binding_id=binding.pk, cause="agent retired", actor=actor, now=now)
    tokens.end(tokens_of=Q(agent=agent), cause="agent retired", actor=actor, now=now)
