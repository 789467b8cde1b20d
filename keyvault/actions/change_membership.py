"""Let a person join or leave a team or role: asked, shown and done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from django.db import transaction

from approvals import ports
from approvals import services as approvals
from keyvault.accounts import administrators, selectors, services
from keyvault.accounts.models import ADMINISTRATORS, Team, User
from keyvault.actions import persons

if TYPE_CHECKING:
    from approvals.models import Request

JOIN, LEAVE = "join", "leave"


class NothingToDo(ValueError):
    """The person is already where the request would put them."""


@ports.register
@dataclass(frozen=True, slots=True)
class ChangeMembership:
    """One person, one team or role, in or out."""

    kind: ClassVar[str] = "membership.change"
    title: ClassVar[str] = "Change a membership"

    person_id: UUID
    group: str
    verb: str

    def to_payload(self) -> dict[str, Any]:
        """Return what rebuilds this action."""
        return {"person_id": str(self.person_id), "group": self.group, "verb": self.verb}

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Rebuild the action. Raises ValueError on a payload of another shape."""
        try:
            found = cls(UUID(payload["person_id"]), str(payload["group"]), str(payload["verb"]))
        except (KeyError, TypeError) as error:
            raise ValueError("not a change of membership") from error
        if found.verb not in {JOIN, LEAVE}:
            raise ValueError("a membership is joined or left")
        return found

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: the group, what kind of group, and the verb."""
        return {
            "group": frozenset({self.group}),
            "group_kind": frozenset({self._team().kind}),
            "verb": frozenset({self.verb}),
        }

    def people(self, role: str) -> frozenset[UUID]:
        """Return the person concerned as "owner"; no team owns a person."""
        return frozenset({self.person_id}) if role == "owner" else frozenset()

    def visible_to(self, person_id: UUID) -> bool:
        """Show it to the person concerned, administrators and auditors."""
        return persons.sees(person_id, self.person_id)

    def describe(self) -> ports.Plan:
        """Return who moves where; other memberships are no part of it."""
        user, team = self._user(), self._team()
        member = "Member" if selectors.is_in(user, self.group) else "Not a member"
        joins = self.verb == JOIN
        return ports.Plan(
            title=f"{user} {'joins' if joins else 'leaves'} {team}",
            sentence=(
                f"{user} will {'join' if joins else 'leave'} the {team.kind} {team} "
                "as soon as this is approved."
            ),
            target=persons.target(user),
            fingerprint=persons.of(user),
            changes=(
                ports.Change(
                    field=f"{team.get_kind_display()} {team}",
                    now=member,
                    then="Member" if joins else "Not a member",
                    warning="approves the acts of others" if joins else "",
                ),
            ),
            body=self.to_payload() | {"username": user.username},
            breaks=() if joins else (f"{user} loses every right that comes from {team}.",),
            undo=f"Ask that {user} {'leaves' if joins else 'joins'} again.",
        )

    def risk(self) -> Sequence[ports.RiskPoint]:
        """Weigh what the group can do."""
        team = self._team()
        points = [ports.RiskPoint(10, "A right of a person changes", f"{self.verb} {team}")]
        if team.kind == Team.Kind.ROLE:
            points.append(ports.RiskPoint(25, "A role is more than a team", str(team)))
        if self.group == ADMINISTRATORS:
            points.append(ports.RiskPoint(30, "Administrators propose who decides", str(team)))
        return points

    def execute(self, *, request_id: UUID, run: ports.Run) -> ports.Outcome:
        """Move the person. A second try finds them there already and changes nothing."""
        user, group = self._user(), self._team().group
        if self.verb == JOIN and not user.is_active:
            raise ports.CannotExecute("inactive", f"{user} was deactivated meanwhile.")
        move = services.add_member if self.verb == JOIN else services.end_membership
        try:
            with transaction.atomic(durable=True):
                run.fence()
                move(
                    user=user,
                    group=group,
                    now=run.now,
                    actor=persons.WORKER,
                    request_id=request_id,
                )
        except administrators.LastAdministrators as error:
            raise ports.CannotExecute("last_administrators", str(error)) from error
        except (services.AlreadyMember, services.NotMember):
            return ports.Outcome(f"{user} was there already.")
        run.reached("membership:changed")
        word = "joined" if self.verb == JOIN else "left"
        return ports.Outcome(f"{user} {word} {self._team()}.")

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Do nothing: asking reserves nothing."""

    def _user(self) -> User:
        return selectors.user(self.person_id)

    def _team(self) -> Team:
        return selectors.team_by_slug(self.group)


def ask(
    *, person: User, subject_id: UUID, group: str, verb: str, reason: str, now: datetime
) -> Request:
    """Ask that somebody joins or leaves.

    Raises gates.MissingRight, NotVisible, NothingToDo, LastAdministrators, and
    what `approvals.services.submit` raises.
    """
    persons.require_asker(person, about=subject_id)
    user, team = selectors.user(subject_id), selectors.team_by_slug(group)
    if selectors.is_in(user, group) == (verb == JOIN):
        word = "already belongs" if verb == JOIN else "does not belong"
        raise NothingToDo(f"{user} {word} to {team}.")
    with transaction.atomic(durable=True):
        if verb == LEAVE and group == ADMINISTRATORS:
            administrators.lock()
            administrators.require_two_without(subject_id)
        action = ChangeMembership(person_id=subject_id, group=group, verb=verb)
        return approvals.submit(action=action, requester=person, reason=reason, now=now)
