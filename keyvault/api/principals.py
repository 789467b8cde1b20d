"""Who calls: the holder of a bearer token, a person's command line or an agent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from approvals.ports import Actor
from keyvault.agents import tokens
from keyvault.api.problems import Problem

if TYPE_CHECKING:
    from django.http import HttpRequest

    from keyvault.accounts.models import User
    from keyvault.agents.models import AccessToken, Agent

SCHEME = "Bearer "


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of the token of one call."""

    token: AccessToken

    @property
    def agent(self) -> Agent | None:
        """Return the agent that calls, or None for a person."""
        return self.token.agent

    @property
    def agent_id(self) -> UUID | None:
        """Return the id of the agent that calls, or None for a person."""
        return self.token.agent_id

    @property
    def person(self) -> User:
        """Return the person that calls. Raises Problem for an agent."""
        if self.token.user is None:
            raise Problem("people-only")
        return self.token.user

    @property
    def actor(self) -> Actor:
        """Return the snapshot of the caller for the ledger."""
        return tokens.actor_of(self.token)

    @property
    def owner(self) -> str:
        """Return the user name of the person behind an agent; empty for a person."""
        return self.token.agent.owner.username if self.token.agent else ""

    @property
    def label(self) -> str:
        """Return one text for each caller, whatever token it holds."""
        return f"{self.actor.kind}:{self.actor.id}"


def of(request: HttpRequest, *, now: datetime) -> Principal:
    """Return who calls. Raises tokens.BadToken, whatever is wrong with the token."""
    header = request.headers.get("Authorization", "")
    if not header.startswith(SCHEME):
        raise tokens.BadToken
    return Principal(tokens.authenticate(header.removeprefix(SCHEME), now=now))


def caller(request: HttpRequest) -> Principal:
    """Return the caller whom the door has let in. Raises tokens.BadToken outside of the door."""
    found = getattr(request, "principal", None)
    if not isinstance(found, Principal):
        raise tokens.BadToken
    return found
