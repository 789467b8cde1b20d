"""Take a person's second factor away and let them enrol a new one: asked, shown and done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from django.db import transaction

from approvals import ports
from approvals import services as approvals
from keyvault.accounts import administrators, invitations, selectors, services
from keyvault.accounts.models import ADMINISTRATORS, User
from keyvault.actions import persons

if TYPE_CHECKING:
    from approvals.models import Request


@ports.register
@dataclass(frozen=True, slots=True)
class ResetFactor:
    """One person's factors; whoever asked hands over the code for the new one."""

    kind: ClassVar[str] = "factor.reset"
    title: ClassVar[str] = "Reset a second factor"

    person_id: UUID
    asked_by: UUID

    def to_payload(self) -> dict[str, Any]:
        """Return what rebuilds this action."""
        return {"person_id": str(self.person_id), "asked_by": str(self.asked_by)}

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Rebuild the action. Raises ValueError on a payload of another shape."""
        try:
            return cls(UUID(payload["person_id"]), UUID(payload["asked_by"]))
        except (KeyError, TypeError) as error:
            raise ValueError("not a reset of a factor") from error

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
        """Return whose factor goes, and what that ends; the state of it now is no part."""
        user = selectors.user(self.person_id)
        return ports.Plan(
            title=f"Reset the second factor of {user}",
            sentence=(
                f"{user} loses the authenticator and the recovery codes, is signed out everywhere, "
                "and may not decide anything for 24 hours."
            ),
            target=persons.target(user),
            fingerprint=persons.of(user),
            changes=(
                ports.Change(
                    "Second factor",
                    "As enrolled",
                    "None, until a new one is enrolled",
                    warning="whoever holds the code and the password becomes this person",
                ),
                ports.Change("Sessions", "Open", "Ended"),
            ),
            body=self.to_payload() | {"username": user.username},
            breaks=(f"Requests that wait for {user} alone wait a day longer.",),
            undo=f"{user} enrols again with the code that whoever asked will hand over.",
        )

    def risk(self) -> Sequence[ports.RiskPoint]:
        """Weigh that a second factor is what keeps a stolen password harmless."""
        user = selectors.user(self.person_id)
        points = [ports.RiskPoint(40, "A second factor is removed", str(user))]
        held = sorted(selectors.roles(user))
        if held:
            points.append(ports.RiskPoint(20, "The person holds a role", ", ".join(held)))
        return points

    def execute(self, *, request_id: UUID, run: ports.Run) -> ports.Outcome:
        """Reset once per request and open the way to a new factor."""
        user = selectors.user(self.person_id)
        done = ports.Outcome(f"The factor of {user} is reset. The code is under People.")
        if selectors.invitation_of(request_id) is not None:
            return done
        try:
            with transaction.atomic(durable=True):
                run.fence()
                self._reset(user, request_id, run.now)
        except administrators.LastAdministrators as error:
            raise ports.CannotExecute("last_administrators", str(error)) from error
        run.reached("factor:reset")
        return done

    def _reset(self, user: User, request_id: UUID, now: datetime) -> None:
        _require_another(user)
        services.reset_factor(user=user, now=now, actor=persons.WORKER, request_id=request_id)
        invitations.invite_to_enrol(
            user=user, invited_by=selectors.user(self.asked_by), now=now, request_id=request_id
        )

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Do nothing: asking reserves nothing."""


def ask(*, person: User, subject_id: UUID, reason: str, now: datetime) -> Request:
    """Ask to reset somebody's factor.

    Raises gates.MissingRight, NotVisible, LastAdministrators, and what
    `approvals.services.submit` raises.
    """
    persons.require_asker(person)
    user = selectors.user(subject_id)
    with transaction.atomic(durable=True):
        _require_another(user)
        action = ResetFactor(person_id=user.pk, asked_by=person.pk)
        return approvals.submit(action=action, requester=person, reason=reason, now=now)


def _require_another(user: User) -> None:
    """Refuse to lock out the one administrator who could hand out the new code."""
    administrators.lock()
    if selectors.has_role(user, ADMINISTRATORS):
        administrators.require_another(user.pk)
