"""The leases on the pages of a key and of an agent, and what this reader may do about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyvault.agents import access as agents
from keyvault.agents import selectors as seen
from keyvault.inventory import access as keys
from keyvault.leases import selectors

if TYPE_CHECKING:
    from keyvault.accounts.models import User
    from keyvault.agents.models import Agent
    from keyvault.inventory.models import Key
    from keyvault.leases.models import Lease


@dataclass(frozen=True, slots=True)
class Line:
    """One lease in a list. `is_linked`: the reader may open the page of what it names."""

    row: Lease
    may_end: bool
    is_linked: bool = True


def of_key(person: User, key: Key) -> list[Line]:
    """Return the leases of a key that this person sees."""
    rows = selectors.of_key(key.pk)
    names = seen.names_seen(person, {row.agent_id for row in rows})
    is_keeper = "manage" in keys.permissions(person, key)
    # Rights are asked for once for each agent, and not for each of its leases.
    stoppable = {row.agent_id: row.agent for row in rows if row.agent.name in names}
    may = {pk for pk, agent in stoppable.items() if is_keeper or _may_stop(person, agent)}
    return [
        Line(row, _is_open(row) and (is_keeper or row.agent_id in may), row.agent.name in names)
        for row in rows
    ]


def of_agent(person: User, agent: Agent) -> list[Line]:
    """Return the leases of an agent: those of keys that this person may be told of."""
    may_stop, answers = _may_stop(person, agent), agents.answers_for(person, agent)
    # Before the cut: many leases of a hidden key would leave no room for the others.
    rows = selectors.of_agent(agent.pk, keys=None if answers else keys.visible_keys(person))
    found = {row.key_id: row.key for row in rows}
    rights = {pk: keys.permissions(person, key) for pk, key in found.items()}
    return [
        Line(row, _is_open(row) and (may_stop or "manage" in rights[row.key_id]), is_seen)
        for row in rows
        if (is_seen := "view" in rights[row.key_id]) or answers
    ]


def living(lines: Sequence[Line]) -> int:
    """Return how many of these leases have not ended."""
    return sum(line.row.ended_at is None for line in lines)


def _is_open(row: Lease) -> bool:
    return str(row.state) == "open"


def _may_stop(person: User, agent: Agent) -> bool:
    return "suspend" in agents.permissions(person, agent)
