"""Gather what the pages of one agent show, each part from the package that knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.urls import reverse

from approvals import selectors as approvals
from keyvault.actions import bind_agent
from keyvault.agents import access, endings, selectors, stops
from keyvault.audit import selectors as ledger
from keyvault.inventory import access as keys
from keyvault.leases import selectors as leases
from keyvault.web import lease_parts, usage_parts
from keyvault.web.history import items

if TYPE_CHECKING:
    from keyvault.accounts.models import User
    from keyvault.agents.models import Agent
    from keyvault.inventory.models import Grant

OVERVIEW, AUTHENTICATION, HISTORY = "overview", "authentication", "history"
HISTORY_LIMIT = 200
_TABS = (
    (OVERVIEW, "Overview"),
    (AUTHENTICATION, "Authentication"),
    (HISTORY, "History"),
)


@dataclass(frozen=True, slots=True)
class Tab:
    """One section of an agent, under its own address."""

    label: str
    href: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Use:
    """One right of the agent to use a key, and what this reader may do about it."""

    grant: Grant
    may_end: bool


def page(person: User, name: str, *, tab: str, now: datetime) -> dict[str, Any]:
    """Return everything the page of an agent shows. Raises NotVisible."""
    agent = access.access_agent(person, name, "view")
    return {
        "agent": agent,
        "nav": "agents",
        "now": now,
        "tab": tab,
        "tabs": [Tab(label, address(agent, slug), slug == tab) for slug, label in _TABS],
        "may": access.permissions(person, agent),
        "may_resume": stops.may_resume(person, agent),
        "problems": selectors.problems_of(agent, now=now),
        **_PARTS[tab](person, agent, now),
    }


def address(agent: Agent, tab: str) -> str:
    """Return the address of one section."""
    return reverse("agent" if tab == OVERVIEW else f"agent-{tab}", args=[agent.name])


def _overview(person: User, agent: Agent, now: datetime) -> dict[str, Any]:
    found = list(selectors.grants_of(agent, now=now))
    shown = [grant for grant in found if _is_shown(person, agent, grant)]
    return {
        "uses": [Use(grant, _may_end(person, grant)) for grant in shown],
        "hidden": len(found) - len(shown),
        "groups": selectors.groups_of(agent),
        "pending": list(_pending(person, agent)),
        "use": usage_parts.of_agent(person, agent, now=now),
        "leases": lease_parts.of_agent(person, agent),
        "leases_shown": leases.SHOWN,
    }


def _is_shown(person: User, agent: Agent, grant: Grant) -> bool:
    """Name a key to those who may see it, and to whoever answers for the agent that reads it."""
    return access.answers_for(person, agent) or "view" in keys.permissions(person, grant.key)


def _may_end(person: User, grant: Grant) -> bool:
    try:
        endings.grant(person=person, grant_id=grant.pk)
    except LookupError:
        return False
    return True


def _pending(person: User, agent: Agent) -> Iterable[Any]:
    """Yield the open requests about an agent, and those to let it use a key."""
    asked = approvals.open_for_subject("agent", agent.pk)
    asked += approvals.open_with("grant.give", agent_id=str(agent.pk))
    for row in asked:
        try:
            yield approvals.access_request(person, row.pk)
        except LookupError:
            continue


def _authentication(_person: User, agent: Agent, now: datetime) -> dict[str, Any]:
    return {
        "clients": selectors.clients(agent),
        "bindings": [
            {"row": row, "lines": bind_agent.lines(row.claims)} for row in selectors.bindings(agent)
        ],
        "tokens": selectors.live_tokens(agent, now=now),
        "tokens_shown": selectors.TOKENS_SHOWN,
    }


def _history(_person: User, agent: Agent, _now: datetime) -> dict[str, Any]:
    lines = ledger.for_subject("agent", agent.pk, limit=HISTORY_LIMIT)
    return {"items": items(lines), "is_cut": len(lines) == HISTORY_LIMIT}


_PARTS = {OVERVIEW: _overview, AUTHENTICATION: _authentication, HISTORY: _history}
