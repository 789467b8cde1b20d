"""Agents: an agent sees itself, a person those of own and of own teams."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import BaseModel, Field

from approvals.ports import NotVisible
from keyvault.agents import reach
from keyvault.api import pages, schemas, shapes
from keyvault.api.principals import caller
from keyvault.inventory import keyset, naming

ORDER = keyset.Order("keyvault.api.agents.cursor")
router = Router(tags=["agents"])


class AgentsQuery(BaseModel):
    """How a list of agents is narrowed."""

    state: Annotated[str, Field(pattern="^(active|suspended|retired)?$")] = ""
    cursor: schemas.Cursor = ""
    limit: schemas.Limit = pages.LIMIT


@router.get("/agents", response=schemas.AgentList, operation_id="listAgents")
def list_agents(request: HttpRequest, query: Query[AgentsQuery]) -> schemas.AgentList:
    """List the agents that the caller may see, by name."""
    agents = reach.seen_by(caller(request).token)
    if query.state:
        agents = agents.filter(state=query.state)
    page = keyset.cut(agents, ORDER, size=query.limit, after=query.cursor)
    return schemas.AgentList(
        items=[shapes.agent(one) for one in page.rows], next_cursor=page.after or None
    )


@router.get("/agents/{str:name}", response=schemas.Agent, operation_id="getAgent")
def get_agent(request: HttpRequest, name: str) -> HttpResponse:
    """Return one agent, with an ETag."""
    plain = naming.key_name(name)
    found = reach.seen_by(caller(request).token).filter(name=plain).first()
    if found is None:
        raise NotVisible(f"agent {plain}")
    return pages.tagged(request, shapes.agent(found))
