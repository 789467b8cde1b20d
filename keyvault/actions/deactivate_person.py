"""Close a person's account: asked, shown and done."""

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
from keyvault.accounts.models import ADMINISTRATORS, User
from keyvault.actions import persons
from keyvault.agents import selectors as agents

if TYPE_CHECKING:
    from approvals.models import Request

_SHOWN = 20


@ports.register
@dataclass(frozen=True, slots=True)
class DeactivatePerson:
    """One account, closed for good."""

    kind: ClassVar[str] = "person.deactivate"
    title: ClassVar[str] = "Deactivate a person"

    person_id: UUID

    def to_payload(self) -> dict[str, Any]:
        """Return what rebuilds this action."""
        return {"person_id": str(self.person_id)}

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Rebuild the action. Raises ValueError on a payload of another shape."""
        try:
            return cls(UUID(payload["person_id"]))
        except (KeyError, TypeError) as error:
            raise ValueError("not a deactivation") from error

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: what the person belongs to."""
        slugs = selectors.teams_of(selectors.user(self.person_id)).values_list("slug", flat=True)
        return {"group": frozenset(slugs)}

    def people(self, role: str) -> frozenset[UUID]:
        """Return the person concerned as "owner"."""
        return frozenset({self.person_id}) if role == "owner" else frozenset()

    def visible_to(self, person_id: UUID) -> bool:
        """Show it to the person concerned, administrators and auditors."""
        return persons.sees(person_id, self.person_id)

    def describe(self) -> ports.Plan:
        """Return whose account closes."""
        user = selectors.user(self.person_id)
        return ports.Plan(
            title=f"Deactivate {user}",
            sentence=f"{user} is signed out at once and can never sign in again.",
            target=persons.target(user),
            fingerprint=persons.of(user),
            changes=(ports.Change("Account", "Active", "Deactivated"),),
            body=self.to_payload() | {"username": user.username},
            breaks=(
                "Decisions of this person on open requests no longer count.",
                "Keys of this person need another owner.",
                "Agents of this person go on reading their keys, and ask for nothing more.",
                "Only a backup owner gives those agents a new way to prove themselves.",
            ),
            undo="Invite the person again under another user name.",
        )

    def risk(self) -> Sequence[ports.RiskPoint]:
        """Weigh what falls away with the person."""
        user = selectors.user(self.person_id)
        points = [ports.RiskPoint(20, "An account is closed for good", str(user))]
        if selectors.has_role(user, ADMINISTRATORS):
            points.append(ports.RiskPoint(30, "An administrator goes", str(user)))
        return points + _agents(user)

    def execute(self, *, request_id: UUID, run: ports.Run) -> ports.Outcome:
        """Close the account; a second try finds it closed and changes nothing."""
        user = selectors.user(self.person_id)
        try:
            with transaction.atomic(durable=True):
                run.fence()
                services.deactivate(
                    user=user, now=run.now, actor=persons.WORKER, request_id=request_id
                )
        except administrators.LastAdministrators as error:
            raise ports.CannotExecute("last_administrators", str(error)) from error
        run.reached("person:deactivated")
        return ports.Outcome(f"{user} is deactivated.")

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Do nothing: asking reserves nothing."""


def ask(*, person: User, subject_id: UUID, reason: str, now: datetime) -> Request:
    """Ask to close somebody's account.

    Raises gates.MissingRight, NotVisible, LastAdministrators, and what
    `approvals.services.submit` raises.
    """
    persons.require_asker(person)
    user = selectors.user(subject_id)
    with transaction.atomic(durable=True):
        if selectors.has_role(user, ADMINISTRATORS):
            administrators.lock()
            administrators.require_two_without(user.pk)
        action = DeactivatePerson(person_id=user.pk)
        return approvals.submit(action=action, requester=person, reason=reason, now=now)


def _agents(user: User) -> list[ports.RiskPoint]:
    """Return which agents the person leaves behind, and who is left to answer for each.

    A risk and no part of the plan: whoever is to go could otherwise register one
    agent after the other, and take back every signature.
    """
    owned, backed = [], []
    for row in agents.of_person(user):
        if row.owner_id == user.pk:
            owned.append(_left(row.name, row.backup_owner))
        else:
            backed.append(_left(row.name, row.owner))
    return [
        *_lost(15, "Agents lose their owner", owned),
        *_lost(5, "Agents lose their backup owner", backed),
    ]


def _lost(points: int, title: str, names: Sequence[str]) -> list[ports.RiskPoint]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [ports.RiskPoint(points, title, f"{', '.join(names[:_SHOWN])}{more}.")]


def _left(agent: str, other: User | None) -> str:
    """Return an agent with who answers for it once somebody has gone."""
    is_there = other is not None and other.is_active
    return f"{agent} ({other if is_there else 'nobody'} is left)"
