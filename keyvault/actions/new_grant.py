"""What must hold before anybody is asked to let an agent use a key."""

from __future__ import annotations

from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import Team, User
from keyvault.agents import access as agents
from keyvault.agents.access import AgentPermission
from keyvault.agents.models import Agent, AgentState
from keyvault.inventory import access, limits
from keyvault.inventory.models import DeliveryMode, Key, KeyPermission, KeyState

USUAL_DAYS = 30


class NotGrantable(Exception):
    """The key or the agent does not allow this; the message says why and the mend."""


class TooLong(NotGrantable):
    """More days are asked for than a right lasts there. `nearest`: the most that is allowed."""

    def __init__(self, environment: str, nearest: int) -> None:
        super().__init__(f"An agent may use a key in {environment} for 1 to {nearest} days.")
        self.nearest = nearest


def reader(name: str, *, person: User, key: Key) -> Agent:
    """Return the agent that is to use a key.

    Whoever keeps the key may name every agent they see, everybody else one that
    they manage. Raises NotVisible, NotGrantable.
    """
    needed = AgentPermission.VIEW if _keeps(person, key) else AgentPermission.MANAGE
    agent = agents.access_agent(person, name, needed)
    require_working(agent)
    return agent


def team(slug: str, *, person: User, key: Key) -> Team:
    """Return the team whose agents are to use a key: one's own, or any for its keeper.

    Raises NotVisible.
    """
    found = people.team_by_slug(slug)
    if found.kind != Team.Kind.TEAM or not (_keeps(person, key) or people.is_in(person, slug)):
        raise NotVisible(f"team {slug}")
    return found


def longest_days(key: Key) -> int:
    """Return for how many days an agent may use a key at most: as long as one lives there."""
    where = key.environment
    return limits.limits(environment=where.slug, protected=where.protected).lifetime_days


def require_usable(key: Key) -> None:
    """Raise NotGrantable unless agents can fetch the key."""
    if key.state != KeyState.LIVE:
        raise NotGrantable(f"{key.name} is {key.get_state_display().lower()}.")
    if key.delivery_mode != DeliveryMode.PULL:
        raise NotGrantable(
            f"{key.name} is read by its owner and not fetched by API. "
            "Ask to change its delivery first."
        )


def require_working(agent: Agent) -> None:
    """Raise NotGrantable for an agent that was retired."""
    if agent.state == AgentState.RETIRED:
        raise NotGrantable(f"{agent.name} was retired. Register a new agent instead.")


def require_length(key: Key, days: int) -> None:
    """Raise TooLong where an agent would use a key for longer than is allowed there."""
    most = longest_days(key)
    if not 1 <= days <= most:
        raise TooLong(key.environment.slug, most)


def _keeps(person: User, key: Key) -> bool:
    return KeyPermission.MANAGE in access.permissions(person, key)
