"""Who may answer for an agent, and the writer that lets other people do so.

Inner writer: the caller owns the transaction, and holds the lock under which
people are deactivated and change teams (`accounts.administrators.lock`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from approvals.ports import Actor
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.agents import services
from keyvault.agents.models import Agent, AgentState
from keyvault.audit import ledger


class BadOwners(Exception):
    """These people cannot answer for the agent; `errors` says for each field what is wrong."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(" ".join(errors.values()))
        self.errors = dict(errors)


def owners(agent: Agent) -> QuerySet[User]:
    """Return who can own an agent: active, enrolled members of the team that runs it."""
    return backups().filter(groups=agent.team_id)


def backups() -> QuerySet[User]:
    """Return who can stand in for the owner of an agent: everybody active and enrolled."""
    return User.objects.filter(pk__in=people.enrolled_ids())


def require_fit(agent: Agent, *, owner_id: UUID, backup_owner_id: UUID | None) -> None:
    """Raise BadOwners unless these people can answer for an agent at this moment."""
    errors = {}
    if not owners(agent).filter(pk=owner_id).exists():
        errors["owner"] = (
            f"Choose an active member of {agent.team.team} who has a second factor: "
            f"the team runs {agent.name}."
        )
    if backup_owner_id is not None:
        if backup_owner_id == owner_id:
            errors["backup_owner"] = "Choose another person than the owner."
        elif not backups().filter(pk=backup_owner_id).exists():
            errors["backup_owner"] = "Choose an active person who has a second factor."
    if errors:
        raise BadOwners(errors)


def change(
    *,
    agent_id: UUID,
    owner_id: UUID,
    backup_owner_id: UUID | None,
    actor: Actor,
    now: datetime,
    request_id: UUID,
) -> Agent:
    """Let other people answer for an agent; those who do already change nothing.

    Raises NotVisible, services.Retired, BadOwners.
    """
    agent = services.lock(agent_id=agent_id)
    before = (agent.owner_id, agent.backup_owner_id)
    if before == (owner_id, backup_owner_id):
        return agent
    if agent.state == AgentState.RETIRED:
        raise services.Retired(agent)
    require_fit(agent, owner_id=owner_id, backup_owner_id=backup_owner_id)
    agent.owner_id, agent.backup_owner_id = owner_id, backup_owner_id
    agent.save(update_fields=["owner", "backup_owner"])
    ledger.record(
        "agent.owner_changed",
        actor=actor,
        subject=services.subject(agent),
        now=now,
        fields={
            "owner": str(owner_id),
            "backup_owner": _text(backup_owner_id),
            "owner_before": str(before[0]),
            "backup_owner_before": _text(before[1]),
        },
        request_id=request_id,
    )
    return agent


def _text(person_id: UUID | None) -> str | None:
    return str(person_id) if person_id else None
