"""Agents that ask: in whose name, and how much at once."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from approvals import selectors as requests
from approvals.ports import Actor
from keyvault.agents import services as agents
from keyvault.agents.models import AgentState

if TYPE_CHECKING:
    from keyvault.agents.models import Agent

MOST_OPEN = 5


class TooManyOpen(Exception):
    """The agent has as many open requests as it may have."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(
            f"{agent.name} has {MOST_OPEN} open requests. Withdraw one, or wait for a decision."
        )


class NobodyToAskFor(Exception):
    """The agent does not work, or its owner has left: there is nobody whom it could ask for."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(f"{agent.name} is stopped or has no living owner, so it cannot ask.")


def lock(agent_id: UUID | None) -> None:
    """Lock the agent that asks, if one does, before any key: the order of every act. Raises NotVisible."""
    if agent_id is not None:
        agents.lock(agent_id=agent_id)


def admit(agent_id: UUID | None) -> Actor | None:
    """Return the agent as the asker of a new request; None where no agent asks.

    Inside the caller's transaction, which the lock of the agent's row makes the
    only one that asks for this agent: the count is a limit and not a guess.
    Raises NotVisible, TooManyOpen, NobodyToAskFor.
    """
    if agent_id is None:
        return None
    agent = agents.lock(agent_id=agent_id)
    if agent.state != AgentState.ACTIVE or not agent.owner.is_active:
        raise NobodyToAskFor(agent)
    asker = Actor("agent", str(agent.pk), agent.name)
    if requests.open_count(asker) >= MOST_OPEN:
        raise TooManyOpen(agent)
    return asker
