"""Renew the admin credential of a Connection: asked, shown and begun in one file. It then runs by itself.

What is approved is to begin. The account and its rights stay; the old value ends
only when the provider takes the new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, services
from approvals import selectors as requests
from approvals.ports import Change, Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_connections, about_keys, connection_plan
from keyvault.connections import renewals, selectors
from keyvault.connections.models import Connection
from keyvault.connections.renewals import NotRenewable

if TYPE_CHECKING:
    from approvals.models import Request

__all__ = ["NotRenewable", "RenewConnection", "ask", "plan"]

JSON = Any


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class RenewConnection:
    """Begin to renew one admin credential. number: that of the credential which is to go."""

    kind: ClassVar[str] = "connection.renew"
    title: ClassVar[str] = "Renew an admin credential"

    connection_id: UUID
    number: int
    started_by: str

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {
            "connection_id": str(self.connection_id),
            "number": self.number,
            "started_by": self.started_by,
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"connection_id", "number", "started_by"}:
            raise ValueError("The stored action has other fields than a renewal.")
        return cls(
            connection_id=UUID(payload["connection_id"]),
            number=int(payload["number"]),
            started_by=str(payload["started_by"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on; one that serves everywhere counts as protected."""
        return about_connections.attributes(self._row())

    def people(self, role: str) -> frozenset[UUID]:
        """Return the team that looks after the Connection; nobody owns one alone."""
        return about_connections.people(self._row(), role)

    def visible_to(self, person_id: UUID) -> bool:
        """Let administrators and auditors see the request."""
        return about_keys.role_may_look(person_id)

    def describe(self) -> Plan:
        """Return whose credential is renewed, and what holds meanwhile."""
        row = self._row()
        label, where = row.admin_label, connection_plan.environment(row)
        return Plan(
            title=f"Renew the admin credential of {row.slug}",
            sentence=(
                f"Give {row.admin_label or 'the account'} of {row.title} a new value that only "
                "keyvault knows, prove that the provider takes it, and end the old one."
            ),
            target=Subject("connection", str(row.pk), row.slug),
            fingerprint=digests.act_digest(kind="connection", id=row.pk),
            changes=(
                Change(
                    "Admin credential (fingerprint)",
                    connection_plan.shown(row.credential_fingerprint),
                    "a new value",
                ),
                *((Change("Account", label, label),) if label else ()),
                Change("Environment", where, where),
            ),
            body={**self.to_payload(), **about_keys.server(row)},
            breaks=(
                "Whoever else works with this account is locked out: it must be keyvault's alone.",
            ),
            undo="The old value ends. A person can set another one and ask for a change.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes it risky."""
        count = selectors.live_key_count(self.connection_id)
        evidence = f"{count} keys are created and ended through it."
        return [
            RiskPoint(10, "Admin credential", evidence),
            *about_connections.protected_risk(self._row()),
        ]

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Begin the renewal. Idempotent on `request_id`."""
        row = self._row()
        with transaction.atomic(durable=True):
            run.fence()
            if not renewals.was_begun(request_id):
                self._begin(row, request_id, run.now)
        return Outcome(
            f"The renewal of the admin credential of {row.title} has begun.",
            {"Connection": row.slug},
        )

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return the page of the Connection."""
        del request_id
        return reverse("connection", args=[self._row().slug])

    def _begin(self, row: Connection, request_id: UUID, now: datetime) -> None:
        try:
            renewal = renewals.begin(
                connection_id=row.pk,
                request_id=request_id,
                started_by=self.started_by,
                actor=about_keys.WORKER,
                now=now,
            )
        except NotRenewable as error:
            raise ports.CannotExecute("wrong_state", str(error)) from error
        # Compared under the lock that `begin` took; where it differs nothing was begun.
        if renewal.number != self.number + 1:
            raise ports.CannotExecute("changed", "The credential has been replaced meanwhile.")

    def _row(self) -> Connection:
        return selectors.by_id(self.connection_id)


def ask(*, person: User, slug: str, reason: str, now: datetime, ticket: str = "") -> Request:
    """Ask to renew the admin credential of a Connection; the view has let administrators in.

    Raises NotVisible, NotRenewable, about_keys.AlreadyAsked, and what
    `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        action = plan(person=person, slug=slug)
        row = selectors.get(slug)
        if renewals.open_of(row.pk) is not None:
            raise NotRenewable(f"The admin credential of {slug} is being renewed already.")
        for request in requests.open_for_subject("connection", row.pk, act=RenewConnection.kind):
            raise about_keys.AlreadyAsked("To renew it has been asked already.", request.pk)
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )


def plan(*, person: User, slug: str) -> RenewConnection:
    """Return the action as it would be asked now. Raises NotVisible, NotRenewable."""
    row = selectors.get(slug)
    if not renewals.can_renew(row):
        raise NotRenewable("The admin credential of this Connection is renewed by hand.")
    return RenewConnection(
        connection_id=row.pk,
        number=row.credential_number,
        started_by=people.actor(person).label,
    )
