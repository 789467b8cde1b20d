"""Invite a person, with the teams and roles they will have from the start: asked, shown and done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from django.db import transaction

from approvals import ports
from approvals import services as approvals
from keyvault.accounts import invitations, names, selectors
from keyvault.accounts.models import ADMINISTRATORS, Team, User
from keyvault.actions import persons

if TYPE_CHECKING:
    from approvals.models import Request


@ports.register
@dataclass(frozen=True, slots=True)
class InvitePerson:
    """One invitation; whoever asked for it may show its code once it is approved."""

    kind: ClassVar[str] = "person.invite"
    title: ClassVar[str] = "Invite a person"

    username: str
    name: str
    email: str
    groups: tuple[str, ...]
    invited_by: UUID

    def to_payload(self) -> dict[str, Any]:
        """Return what rebuilds this action."""
        return {
            "username": self.username,
            "name": self.name,
            "email": self.email,
            "groups": sorted(self.groups),
            "invited_by": str(self.invited_by),
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Rebuild the action. Raises ValueError on a payload of another shape."""
        try:
            return cls(
                username=names.username(payload["username"]),
                name=str(payload["name"]),
                email=str(payload["email"]),
                groups=tuple(sorted(map(str, payload["groups"]))),
                invited_by=UUID(payload["invited_by"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError("not an invitation") from error

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: the groups and their kinds."""
        return {
            "group": frozenset(self.groups),
            "group_kind": frozenset(str(team.kind) for team in self._teams()),
        }

    def people(self, role: str) -> frozenset[UUID]:
        """Return nobody: the person is not here yet."""
        del role
        return frozenset()

    def visible_to(self, person_id: UUID) -> bool:
        """Show it to administrators and auditors."""
        return persons.sees(person_id)

    def describe(self) -> ports.Plan:
        """Return who is invited and what they will belong to."""
        titles = tuple(str(team) for team in self._teams())
        return ports.Plan(
            title=f"Invite {self.name} ({self.username})",
            sentence=(
                f"{self.name} <{self.email}> may make the account {self.username} within 72 hours "
                f"and will belong to {', '.join(titles) or 'no team'}."
            ),
            target=ports.Subject("person", self.username, f"{self.name} ({self.username})"),
            fingerprint=persons.fingerprint(self.username, names.email_key(self.email)),
            changes=(
                ports.Change("Account", "None", self.username),
                ports.Change("Teams and roles", (), titles),
            ),
            body=self.to_payload(),
            undo="Withdraw the invitation, or deactivate the account.",
        )

    def risk(self) -> Sequence[ports.RiskPoint]:
        """Weigh what the person will be able to do."""
        points = [ports.RiskPoint(10, "A new person comes in", self.username)]
        roles = [str(team) for team in self._teams() if team.kind == Team.Kind.ROLE]
        if roles:
            points.append(ports.RiskPoint(25, "A role is more than a team", ", ".join(roles)))
        if ADMINISTRATORS in self.groups:
            points.append(ports.RiskPoint(30, "Administrators propose who decides", self.username))
        return points

    def execute(self, *, request_id: UUID, run: ports.Run) -> ports.Outcome:
        """Open the invitation once per request."""
        done = ports.Outcome(
            f"{self.name} is invited. Whoever asked can show the code, under People.",
        )
        if selectors.invitation_of(request_id) is not None:
            return done
        try:
            with transaction.atomic(durable=True):
                run.fence()
                invitations.invite(
                    username=self.username,
                    name=self.name,
                    email=self.email,
                    groups=self.groups,
                    invited_by=selectors.user(self.invited_by),
                    now=run.now,
                    request_id=request_id,
                )
        except invitations.NameTaken as error:
            raise ports.CannotExecute("name_taken", str(error)) from error
        run.reached("invitation:opened")
        return done

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Do nothing: asking reserves nothing."""

    def _teams(self) -> list[Team]:
        return [selectors.team_by_slug(slug) for slug in sorted(self.groups)]


def ask(
    *,
    person: User,
    username: str,
    name: str,
    email: str,
    groups: Sequence[str],
    reason: str,
    now: datetime,
) -> Request:
    """Ask to invite somebody.

    Raises gates.MissingRight, names.BadName, NameTaken, NotVisible for an
    unknown group, and what `approvals.services.submit` raises.
    """
    persons.require_asker(person)
    action = InvitePerson(
        username=names.username(username),
        name=name,
        email=email,
        groups=tuple(sorted(groups)),
        invited_by=person.pk,
    )
    with transaction.atomic(durable=True):
        invitations.require_free(action.username, now=now)
        return approvals.submit(action=action, requester=person, reason=reason, now=now)
