"""Make a team with its first member: asked, shown and done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from django.db import transaction

from approvals import ports
from approvals import services as approvals
from keyvault.accounts import names, selectors, services
from keyvault.accounts.models import User
from keyvault.actions import persons

if TYPE_CHECKING:
    from approvals.models import Request


class TeamTaken(ValueError):
    """A team or role of this name exists."""


@ports.register
@dataclass(frozen=True, slots=True)
class CreateTeam:
    """One new team; its first member can own keys for it at once."""

    kind: ClassVar[str] = "team.create"
    title: ClassVar[str] = "Make a team"

    slug: str
    name: str
    first_member: UUID

    def to_payload(self) -> dict[str, Any]:
        """Return what rebuilds this action."""
        return {"slug": self.slug, "name": self.name, "first_member": str(self.first_member)}

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Rebuild the action. Raises ValueError on a payload of another shape."""
        try:
            slug, name = names.team(payload["slug"]), str(payload["name"])
            return cls(slug=slug, name=name, first_member=UUID(payload["first_member"]))
        except (KeyError, TypeError) as error:
            raise ValueError("not a new team") from error

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: the group."""
        return {"group": frozenset({self.slug}), "group_kind": frozenset({"team"})}

    def people(self, role: str) -> frozenset[UUID]:
        """Return the first member as "owner"; the team itself has nobody yet."""
        return frozenset({self.first_member}) if role == "owner" else frozenset()

    def visible_to(self, person_id: UUID) -> bool:
        """Show it to the first member, administrators and auditors."""
        return persons.sees(person_id, self.first_member)

    def describe(self) -> ports.Plan:
        """Return the team and who begins it."""
        member = self._member()
        return ports.Plan(
            title=f"Make the team {self.name}",
            sentence=f"There will be a team {self.name} ({self.slug}), and {member} is its first member.",
            target=ports.Subject("team", self.slug, self.name),
            fingerprint=persons.fingerprint("team", self.slug),
            changes=(
                ports.Change(
                    field="Team", now="none of this name", then=f"{self.name} ({self.slug})"
                ),
                ports.Change(
                    field="Members",
                    now="nobody",
                    then=f"{member} ({member.username})",
                    warning="decides on the team's keys",
                ),
            ),
            body=self.to_payload(),
            undo="A team is not deleted, because its keys and history name it; its members can leave.",
        )

    def risk(self) -> Sequence[ports.RiskPoint]:
        """Weigh that policies may name the team."""
        return (
            ports.RiskPoint(10, "A new group that can own keys", self.slug),
            ports.RiskPoint(5, "Policies may name it as approvers", self.slug),
        )

    def execute(self, *, request_id: UUID, run: ports.Run) -> ports.Outcome:
        """Make the team and its first membership at once. A second try finds its own work."""
        with transaction.atomic(durable=True):
            run.fence()
            if selectors.joined_by(request_id):
                return ports.Outcome(f"The team {self.name} was made already.")
            if selectors.is_team_taken(self.slug):
                raise ports.CannotExecute("taken", f"A team {self.slug} was made meanwhile.")
            team = services.create_team(
                slug=self.slug, title=self.name, now=run.now, actor=persons.WORKER
            )
            services.add_member(
                user=self._member(),
                group=team.group,
                now=run.now,
                actor=persons.WORKER,
                request_id=request_id,
            )
        run.reached("team:made")
        return ports.Outcome(f"{self._member()} is the first member of {self.name}.")

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Do nothing: asking reserves nothing."""

    def _member(self) -> User:
        return selectors.user(self.first_member)


def ask(*, person: User, slug: str, name: str, reason: str, now: datetime) -> Request:
    """Ask for a team that the asker will be the first member of.

    Raises gates.MissingRight, names.BadName, TeamTaken, and what
    `approvals.services.submit` raises.
    """
    persons.require_asker(person)
    slug = names.team(slug)
    if selectors.is_team_taken(slug):
        raise TeamTaken(f"There is a team or role {slug} already.")
    action = CreateTeam(slug=slug, name=name.strip() or slug, first_member=person.pk)
    with transaction.atomic(durable=True):
        return approvals.submit(action=action, requester=person, reason=reason, now=now)
