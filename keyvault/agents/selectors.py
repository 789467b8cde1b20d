"""Read agents: lists with an allow-list of filters and keyset pages, their keys and their problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.db.models import Exists, OuterRef, Q, QuerySet

from keyvault.accounts import selectors as people
from keyvault.accounts.models import ADMINISTRATORS, User
from keyvault.agents import access
from keyvault.agents.clients import live as live_clients
from keyvault.agents.models import (
    AccessToken,
    Agent,
    AgentMembership,
    AgentState,
    Binding,
    Client,
)
from keyvault.inventory import keyset, naming
from keyvault.inventory.models import Grant, Key, KeyPermission

ENDS_SOON = timedelta(days=14)
IDLE = timedelta(days=90)
TOKENS_SHOWN = 50
ORPHAN, ENDING, UNUSED = "orphan", "ending", "idle"
_SALT = "keyvault.agents.cursor"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_ORDERS = {
    "name": keyset.Order(_SALT),
    "used": keyset.Order(_SALT, sort="used", moment="last_seen_at", blank=_LONG_AGO),
}


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list shows. Built by `parse` only, so that no other look-up can be reached."""

    q: str = ""
    state: str = ""
    team: str = ""
    owner: str = ""
    input: str = ""
    problem: str = ""
    sort: str = "name"

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Filters:
        """Read the query string of a list. Raises keyset.BadFilter on what is not listed."""
        return cls(
            **keyset.given(query, names=cls.__dataclass_fields__, closed=_CLOSED, noun="Agents")
        )

    @property
    def active(self) -> tuple[tuple[str, str], ...]:
        """Return the filters that narrow the list, as names and values."""
        values = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        return tuple((name, value) for name, value in values if value and name != "sort")


_CLOSED: dict[str, frozenset[str]] = {
    "state": frozenset(AgentState.values),
    "owner": frozenset({"me"}),
    "input": frozenset({"outside"}),
    "problem": frozenset({"any", ORPHAN, ENDING, UNUSED}),
    "sort": frozenset(_ORDERS),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One agent in a list: how many keys it may use now, and what is wrong with it."""

    agent: Agent
    keys: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AgentPage:
    """One page of agents. `after` and `before` are cursors, empty at the ends."""

    rows: Sequence[Row]
    after: str
    before: str
    count: int
    is_exact: bool = True


def agents_for(
    person: User, filters: Filters, *, now: datetime, after: str = "", before: str = ""
) -> AgentPage:
    """Return a page of the agents that a person may see. Raises keyset.BadFilter.

    The count is of visible agents only, and stops at 10,000.
    """
    found = _filtered(access.visible_agents(person), filters, person=person, now=now)
    count, is_exact = keyset.count(found)
    found = found.select_related("owner", "backup_owner", "team__team")
    page = keyset.cut(
        found, _ORDERS[filters.sort], size=keyset.PAGE_SIZE, after=after, before=before
    )
    keys, ending = key_counts(page.rows, now=now), _with_ending(page.rows, now=now)
    rows = [
        Row(agent, keys[agent.pk], problems(agent, has_ending=agent.pk in ending, now=now))
        for agent in page.rows
    ]
    return AgentPage(rows, page.after, page.before, count, is_exact)


def counts(person: User, *, now: datetime) -> dict[str, int]:
    """Return how many visible agents the common filters would show."""
    agents = access.visible_agents(person)
    chips = {
        "all": Filters(),
        "mine": Filters(owner="me"),
        "active": Filters(state=AgentState.ACTIVE),
        "suspended": Filters(state=AgentState.SUSPENDED),
        "outside": Filters(input="outside"),
        "problem": Filters(problem="any"),
    }
    return {
        name: keyset.count(_filtered(agents, chip, person=person, now=now))[0]
        for name, chip in chips.items()
    }


def problems(agent: Agent, *, has_ending: bool, now: datetime) -> tuple[str, ...]:
    """Return what a person should look at: orphan, ending, idle. A retired agent has none."""
    if agent.state == AgentState.RETIRED:
        return ()
    checks = {
        ORPHAN: access.is_orphan(agent),
        ENDING: has_ending,
        UNUSED: agent.state == AgentState.ACTIVE
        and (agent.last_seen_at or agent.created_at) <= now - IDLE,
    }
    return tuple(name for name, holds in checks.items() if holds)


def problems_of(agent: Agent, *, now: datetime) -> tuple[str, ...]:
    """Return the problems of one agent."""
    return problems(agent, has_ending=agent.pk in _with_ending([agent], now=now), now=now)


def key_counts(agents: Iterable[Agent], *, now: datetime) -> Mapping[UUID, int]:
    """Return how many keys each agent may use now, by its own grants and those of its groups."""
    wanted = [agent.pk for agent in agents]
    keys: dict[UUID, set[UUID]] = defaultdict(set)
    for agent_id, key_id in grants_in_force(now=now, agent__in=wanted).values_list(
        "agent_id", "key_id"
    ):
        keys[agent_id].add(key_id)
    by_group = grants_in_force(
        now=now, group__agent_memberships__agent__in=wanted, group__agent_memberships__left_at=None
    )
    for agent_id, key_id in by_group.values_list("group__agent_memberships__agent", "key_id"):
        keys[agent_id].add(key_id)
    return defaultdict(int, {agent_id: len(found) for agent_id, found in keys.items()})


def grants_of(agent: Agent, *, now: datetime) -> QuerySet[Grant]:
    """Return the grants by which an agent may use keys now, its groups' included, by key."""
    groups = agent.memberships.filter(left_at=None).values("group_id")
    return (
        grants_in_force(now=now)
        .filter(Q(agent=agent) | Q(group__in=groups))
        .select_related("key__environment", "key__owner", "group__team", "agent")
        .order_by("key__name", "ends_at")
    )


def grants_in_force(*, now: datetime, **by: Any) -> QuerySet[Grant]:  # noqa: ANN401 - look-ups.
    """Return the grants to use a key that hold now."""
    rows = Grant.objects.filter(
        permission=KeyPermission.USE, ended_at=None, starts_at__lte=now, user=None, **by
    )
    return rows.filter(Q(ends_at=None) | Q(ends_at__gt=now))


def users_of(key: Key, *, now: datetime) -> QuerySet[Agent]:
    """Return the agents that may use a key now, by a grant of their own or of a group."""
    found = grants_in_force(now=now, key=key).order_by()
    groups = AgentMembership.objects.filter(
        left_at=None, group__in=found.filter(group__isnull=False).values("group")
    )
    direct = Q(pk__in=found.filter(agent__isnull=False).values("agent"))
    rows = Agent.objects.exclude(state=AgentState.RETIRED)
    return rows.filter(direct | Q(pk__in=groups.values("agent")))


def askable(person: User, *, is_keeper: bool) -> QuerySet[Agent]:
    """Return the agents for which a person can ask for a key.

    is_keeper: the person keeps the key, and may name every agent they see.
    """
    found = access.visible_agents(person).exclude(state=AgentState.RETIRED)
    if not is_keeper and not people.has_role(person, ADMINISTRATORS):
        found = found.filter(Q(owner=person) | Q(backup_owner=person))
    return found


def names_seen(person: User, agent_ids: Iterable[UUID]) -> frozenset[str]:
    """Return the names of those of the given agents that a person may see."""
    found = access.visible_agents(person).filter(pk__in=list(agent_ids))
    return frozenset(found.values_list("name", flat=True))


def open_grants(group: Group) -> QuerySet[Grant]:
    """Return the grants to use a key that a group holds and nobody has ended."""
    return Grant.objects.filter(group=group, permission=KeyPermission.USE, ended_at=None)


def open_grants_of(agents: Iterable[Agent]) -> QuerySet[Grant]:
    """Return the grants to use a key that agents or their groups hold and nobody has ended."""
    ids = [agent.pk for agent in agents]
    stays = AgentMembership.objects.filter(agent__in=ids, left_at=None)
    held = Grant.objects.filter(permission=KeyPermission.USE, ended_at=None)
    return held.filter(Q(agent__in=ids) | Q(group__in=stays.values("group_id")))


def of_group(group_id: int) -> QuerySet[Agent]:
    """Return the agents that a grant to a group reaches now, by name."""
    live = AgentMembership.objects.filter(group=group_id, left_at=None).values("agent_id")
    return Agent.objects.filter(pk__in=live).exclude(state=AgentState.RETIRED)


def of_person(person: User) -> QuerySet[Agent]:
    """Return the agents that a person owns or stands in for and that were not retired, by name."""
    mine = Agent.objects.filter(Q(owner=person) | Q(backup_owner=person))
    return mine.exclude(state=AgentState.RETIRED).select_related("owner", "backup_owner")


def groups_of(agent: Agent) -> QuerySet[AgentMembership]:
    """Return the groups that an agent belongs to now."""
    return agent.memberships.filter(left_at=None).select_related("group__team")


def clients(agent: Agent) -> QuerySet[Client]:
    """Return every stored way of an agent to authenticate, newest first."""
    return agent.clients.all()


def bindings(agent: Agent) -> QuerySet[Binding]:
    """Return the claims that make a bearer this agent, those that ended last."""
    return agent.bindings.select_related("trust").order_by("ended_at", "created_at")


def live_tokens(agent: Agent, *, now: datetime) -> QuerySet[AccessToken]:
    """Return the newest tokens of an agent that hold now."""
    rows = agent.tokens.filter(ended_at=None, expires_at__gt=now)
    return rows.select_related("client", "binding__trust", "parent")[:TOKENS_SHOWN]


def _with_ending(agents: Iterable[Agent], *, now: datetime) -> set[UUID]:
    rows = _ending(now).filter(agent__in=[agent.pk for agent in agents])
    return set(rows.values_list("agent_id", flat=True))


def _ending(now: datetime) -> QuerySet[Client]:
    return live_clients(now=now).filter(expires_at__lte=now + ENDS_SOON)


def _filtered(
    agents: QuerySet[Agent], filters: Filters, *, person: User, now: datetime
) -> QuerySet[Agent]:
    exact = {"state": filters.state, "team__team__slug": filters.team}
    agents = agents.filter(**{name: value for name, value in exact.items() if value})
    if filters.q:
        text = naming.fold(filters.q)
        agents = agents.filter(Q(name__contains=text) | Q(title__icontains=filters.q))
    if filters.owner:
        agents = agents.filter(Q(owner=person) | Q(backup_owner=person))
    if filters.input:
        agents = agents.filter(reads_outside_text=True).exclude(state=AgentState.RETIRED)
    if filters.problem:
        agents = agents.exclude(state=AgentState.RETIRED).filter(_problem(filters.problem, now))
    return agents


def _problem(name: str, now: datetime) -> Q:
    """Return the condition behind one problem, or behind any of them."""
    stale = Q(last_seen_at=None, created_at__lte=now - IDLE) | Q(last_seen_at__lte=now - IDLE)
    known = {
        ORPHAN: Q(owner__is_active=False)
        & (Q(backup_owner=None) | Q(backup_owner__is_active=False)),
        ENDING: Q(Exists(_ending(now).filter(agent=OuterRef("pk")))),
        UNUSED: stale & Q(state=AgentState.ACTIVE),
    }
    return known[ORPHAN] | known[ENDING] | known[UNUSED] if name == "any" else known[name]
