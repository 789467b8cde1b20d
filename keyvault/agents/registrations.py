"""Register an agent and describe it anew: acts of one person that give no right to any key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.db import transaction

from keyvault.accounts import selectors as people
from keyvault.accounts.models import Team, User
from keyvault.agents import access, services
from keyvault.agents.access import AgentPermission
from keyvault.agents.models import Agent


class BadRegistration(Exception):
    """What was said of an agent cannot be; `errors` says for each field what is wrong."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(" ".join(errors.values()))
        self.errors = dict(errors)


def teams(person: User) -> list[Team]:
    """Return the teams for which a person can register an agent."""
    return list(people.teams_of(person).filter(kind=Team.Kind.TEAM))


def backups(person: User) -> list[User]:
    """Return who can stand in for a person: everybody else who is active."""
    return list(people.people().filter(is_active=True).exclude(pk=person.pk))


def register(
    *,
    person: User,
    name: str,
    title: str,
    purpose: str,
    team: str,
    reads_outside_text: bool,
    now: datetime,
    backup_owner: UUID | None = None,
) -> Agent:
    """Make an agent of this person's, for a team of theirs.

    Raises BadRegistration, naming.BadName, services.NameTaken.
    """
    mine = {row.slug: row for row in teams(person)}
    others = {other.pk: other for other in backups(person)}
    errors = {}
    if team not in mine:
        errors["team"] = "Choose a team that you belong to."
    if backup_owner is not None and backup_owner not in others:
        errors["backup_owner"] = "Choose another active person."
    if errors:
        raise BadRegistration(errors)
    with transaction.atomic(durable=True):
        return services.register(
            name=name,
            title=title or name,
            purpose=purpose,
            owner=person,
            team=mine[team].group,
            reads_outside_text=reads_outside_text,
            backup_owner=others[backup_owner] if backup_owner else None,
            now=now,
            actor=people.actor(person),
        )


def describe(
    *, person: User, name: str, title: str, purpose: str, reads_outside_text: bool, now: datetime
) -> Agent:
    """Change what people read about an agent. Raises NotVisible, services.Retired."""
    with transaction.atomic(durable=True):
        agent = access.access_agent(person, name, AgentPermission.MANAGE)
        return services.describe(
            agent_id=agent.pk,
            title=title,
            purpose=purpose,
            reads_outside_text=reads_outside_text,
            actor=people.actor(person),
            now=now,
        )
