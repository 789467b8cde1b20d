"""Stop writing a key to a place, and take our value away there: asked, shown and done."""

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
from keyvault.accounts.models import User
from keyvault.actions import about_keys, about_places
from keyvault.connections.models import Connection
from keyvault.dependents import selectors
from keyvault.dependents.models import Dependent
from keyvault.inventory import access
from keyvault.inventory import selectors as keys
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyPermission
from keyvault.rotation import delivering

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePlace:
    """Remove the value of one key from one place, and write no version there any more."""

    kind: ClassVar[str] = "place.remove"
    title: ClassVar[str] = "Remove a key from a place"

    key_id: UUID
    dependent_id: UUID

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {"key_id": str(self.key_id), "dependent_id": str(self.dependent_id)}

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"key_id", "dependent_id"}:
            raise ValueError("The stored action has other fields than a place to remove.")
        return cls(key_id=UUID(payload["key_id"]), dependent_id=UUID(payload["dependent_id"]))

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: the key's attributes and the destination's."""
        _, connection = self._place()
        return about_places.attributes(about_keys.attributes_of(self._key()), connection)

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owner, or the live members of the owning team."""
        return about_keys.people_of(self._key(), role)

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see the key see what is asked about it."""
        return about_keys.key_may_look(person_id, self.key_id)

    def describe(self) -> Plan:
        """Return what is taken away where, and who then has nothing."""
        key, (row, connection) = self._key(), self._place()
        environment, warning = about_keys.environment_line(key.environment)
        return Plan(
            title=f"Remove {key.name} from {row.name}",
            sentence=(
                f"Remove the value of {key.name} from {row.name} at {connection.title}, and write "
                "no later version there."
            ),
            target=Subject("key", str(key.pk), key.name),
            fingerprint=digests.act_digest(kind="key", id=key.pk),
            changes=(
                Change("Place", row.name, "not written any more"),
                *about_places.rows(connection, row.target, is_new=False),
                Change("Environment", environment, environment, warning),
            ),
            body=self.to_payload(),
            breaks=(f"Whatever reads the key at {row.name} finds nothing there.",),
            undo="Ask to have it written there again.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes the removal risky."""
        row, _ = self._place()
        return [RiskPoint(15, "May break", f"Whatever reads at {row.name} fails.")]

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Have the value removed. Idempotent."""
        del request_id
        key = self._key()
        row, _ = self._place()
        with transaction.atomic(durable=True):
            run.fence()
            inventory.lock(key_id=key.pk)
            if row.ended_at is None:
                delivering.promise_removal(row.pk)
        facts = {"Key": key.name, "Place": row.name}
        return Outcome(f"{key.name} is being removed from {row.name}.", facts)

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return who uses the key."""
        del request_id
        return reverse("key-dependents", args=[self._key().name])

    def _place(self) -> tuple[Dependent, Connection]:
        row = selectors.of_any_time(self.key_id, self.dependent_id)
        if row.connection is None:
            raise ports.NotVisible(f"place {self.dependent_id}")
        return row, row.connection

    def _key(self) -> Key:
        key = keys.by_id(self.key_id)
        if key is None:
            raise ports.NotVisible(f"key {self.key_id}")
        return key


def plan(*, person: User, key: str, dependent_id: UUID) -> RemovePlace:
    """Return the action as it would be asked now, to show its plan. Raises NotVisible."""
    found = access.access_key(person, key, KeyPermission.ROTATE)
    row = selectors.by_id(found.pk, dependent_id)
    if row.connection_id is None:
        raise ports.NotVisible(f"place {dependent_id}")
    return RemovePlace(key_id=found.pk, dependent_id=row.pk)


def ask(
    *, person: User, key: str, place: str, reason: str, now: datetime, ticket: str = ""
) -> Request:
    """Ask to remove a key from the place that goes by a name among its dependents.

    Raises NotVisible, about_keys.AlreadyAsked, and what `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        found = access.access_key(person, key, KeyPermission.ROTATE)
        dependent_id = selectors.by_name(found.pk, place).pk
        action = plan(person=person, key=key, dependent_id=dependent_id)
        inventory.lock(key_id=action.key_id)
        for row in requests.open_for_subject("key", action.key_id, act=RemovePlace.kind):
            if row.payload["dependent_id"] == str(dependent_id):
                raise about_keys.AlreadyAsked("Its removal has been asked already.", row.pk)
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )
