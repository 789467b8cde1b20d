"""Addresses of agents: the list, one agent, what takes from it and what asks for it."""

from __future__ import annotations

from django.urls import path

from keyvault.web import (
    agent_access,
    agent_clients,
    agent_owner,
    agent_page,
    agent_stops,
    agents,
)

_ONE = "agents/<slug:name>/"

urlpatterns = [
    path("agents/", agents.agents_list, name="agents"),
    path("agents/new/", agents.new, name="agent-new"),
    path(_ONE, agents.agent, name="agent"),
    *(
        path(f"{_ONE}{tab}/", agents.agent, {"tab": tab}, name=f"agent-{tab}")
        for tab in (agent_page.AUTHENTICATION, agent_page.HISTORY)
    ),
    path(f"{_ONE}edit/", agents.edit, name="agent-edit"),
    path(f"{_ONE}owner/", agent_owner.change, name="agent-owner"),
    *(
        path(f"{_ONE}{act}/", agent_stops.stop, {"act": act}, name=f"agent-{act}")
        for act in agent_stops.ACTS
    ),
    path(f"{_ONE}keys/ask/", agent_access.for_agent, name="agent-access"),
    path(f"{_ONE}teams/join/", agent_access.join, name="agent-join"),
    path(f"{_ONE}teams/<slug:team>/leave/", agent_stops.leave, name="agent-leave"),
    path(f"{_ONE}secrets/new/", agent_clients.add_secret, name="agent-secret"),
    path(f"{_ONE}public-keys/new/", agent_clients.add_key, name="agent-key"),
    path(f"{_ONE}clients/<uuid:client_id>/end/", agent_clients.end_client, name="client-end"),
    path(f"{_ONE}bindings/<uuid:binding_id>/end/", agent_clients.end_binding, name="binding-end"),
    path("grants/<uuid:grant_id>/end/", agent_stops.end_grant, name="grant-end"),
    path("keys/<slug:name>/agents/", agent_access.for_key, name="key-agents"),
]
