"""Rotate a key: asked, shown and begun in one file. The rotation then runs by itself.

What is approved is to begin: a rotation ends the old version only on proof that
nobody needs it, and goes back by itself. Going on without that proof is an act
of its own (`finish_rotation`).
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
from keyvault.actions import about_keys, askers
from keyvault.connections import minting
from keyvault.inventory import access, selectors
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyPermission, KeyState
from keyvault.rotation import selectors as rotations
from keyvault.rotation import services as rotation
from keyvault.rotation.models import Trigger
from keyvault.usage import selectors as usage
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any
# What a person or a program may give as the reason; the others are the clock's own.
ASKED = (Trigger.MANUAL, Trigger.CI, Trigger.INCIDENT)


class NotRotatable(Exception):
    """The key does not live, or it is being rotated already. The message says which."""


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class RotateKey:
    """Begin to move one key to a new version, and everybody who uses it with it."""

    kind: ClassVar[str] = "key.rotate"
    title: ClassVar[str] = "Rotate a key"

    key_id: UUID
    trigger: str
    reason: str
    started_by: str
    deploy_id: str = ""

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {
            "key_id": str(self.key_id),
            "trigger": self.trigger,
            "reason": self.reason,
            "started_by": self.started_by,
            "deploy_id": self.deploy_id,
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"key_id", "trigger", "reason", "started_by", "deploy_id"}:
            raise ValueError("The stored action has other fields than a rotation.")
        return cls(
            key_id=UUID(payload["key_id"]),
            trigger=str(Trigger(payload["trigger"])),
            reason=str(payload["reason"]),
            started_by=str(payload["started_by"]),
            deploy_id=str(payload["deploy_id"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on; "trigger" tells a deployment from a person."""
        return about_keys.attributes_of(self._key()) | {"trigger": frozenset({self.trigger})}

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owner, or the live members of the owning team."""
        return about_keys.people_of(self._key(), role)

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see the key see what is asked about it."""
        return about_keys.key_may_look(person_id, self.key_id)

    def describe(self) -> Plan:
        """Return which version comes, and when the old one ends."""
        key = self._key()
        current = versions.current(key.pk)
        number = current.number if current else 0
        environment, warning = about_keys.environment_line(key.environment)
        return Plan(
            title=f"Rotate {key.name}",
            sentence=(
                f"Make version {number + 1} of {key.name} at {key.connection.title}, move "
                f"everybody who uses it, and end version {number} when nobody does."
            ),
            target=Subject("key", str(key.pk), key.name),
            fingerprint=digests.act_digest(kind="key", id=key.pk),
            changes=(
                Change("Version", f"v{number}", f"v{number + 1}"),
                Change("Environment", environment, environment, warning),
                Change("Connection", key.connection.title, key.connection.title),
                Change("Begun by", "", Trigger(self.trigger).label),
                *((Change("Deployment", "", self.deploy_id),) if self.deploy_id else ()),
            ),
            body={
                "key_id": str(key.pk),
                "version": str(current.pk) if current else "",
                **about_keys.server(key.connection),
            },
            breaks=(
                "Nothing, if all goes well: both versions work until everybody has the new one.",
            ),
            undo="Until the old version is ended, the rotation can be rolled back.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes moving this key risky."""
        key, users = self._key(), usage.users_lately(self.key_id)
        points = []
        if key.environment.protected:
            text = f"{key.environment.slug} is marked protected."
            points.append(RiskPoint(10, "Protected environment", text))
        if users:
            points.append(RiskPoint(5, "In use", f"{', '.join(users)} used it in 30 days."))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Begin the rotation. Idempotent on `request_id`."""
        key = self._key()
        about_keys.require_server(key, request_id)
        with transaction.atomic(durable=True):
            run.fence()
            found = rotations.by_request(request_id) or self._begin(request_id, run.now)
        facts = {"Key": key.name, "Rotation": str(found)}
        return Outcome(f"The rotation of {key.name} has begun.", facts)

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return the page of the rotation once it has begun, and before that the key's."""
        found = rotations.by_request(request_id)
        return (
            reverse("rotation", args=[found]) if found else reverse("key", args=[self._key().name])
        )

    def _begin(self, request_id: UUID, now: datetime) -> UUID:
        try:
            return rotation.begin(
                key_id=self.key_id,
                trigger=self.trigger,
                request_id=request_id,
                started_by=self.started_by,
                reason=self.reason,
                deploy_id=self.deploy_id,
                actor=about_keys.WORKER,
                now=now,
            ).pk
        except (rotation.AlreadyRotating, rotation.NotRotatable) as error:
            raise ports.CannotExecute("wrong_state", str(error)) from error

    def _key(self) -> Key:
        key = selectors.by_id(self.key_id)
        if key is None:
            raise ports.NotVisible(f"key {self.key_id}")
        return key


def ask(
    *,
    person: User,
    name: str,
    reason: str,
    now: datetime,
    trigger: str = Trigger.MANUAL,
    deploy_id: str = "",
    ticket: str = "",
    agent_id: UUID | None = None,
) -> Request:
    """Ask to rotate a key. `agent_id`: the person's agent that asks for it.

    A second trigger of one deployment finds the request of the first by
    `of_deployment`. Raises NotVisible, NotRotatable, about_keys.AlreadyAsked, and
    what `askers.admit` and `approvals.services.submit` raise.
    """
    with transaction.atomic(durable=True):
        asked_by = askers.admit(agent_id)
        key = access.access_key(person, name, KeyPermission.ROTATE)
        inventory.lock(key_id=key.pk)
        if key.state != KeyState.LIVE:
            raise NotRotatable(f"{key.name} is {key.get_state_display().lower()}.")
        _require_versions(key)
        running = rotations.open_of(key.pk)
        if running is not None:
            raise NotRotatable(f"{key.name} is being rotated already.")
        sentence = f"To rotate {key.name} has been asked already."
        about_keys.refuse_second(key, RotateKey.kind, sentence)
        action = RotateKey(
            key_id=key.pk,
            trigger=str(Trigger(trigger)),
            reason=reason,
            started_by=asked_by.label if asked_by else people.actor(person).label,
            deploy_id=deploy_id,
        )
        return services.submit(
            action=action,
            requester=person,
            reason=reason,
            ticket=ticket,
            now=now,
            asked_by=asked_by,
        )


def _require_versions(key: Key) -> None:
    """Raise NotRotatable for a key that is lent: there is no value that another could replace."""
    if minting.mints(key.connection):
        raise NotRotatable(
            f"{key.name} keeps no value. Each run of an agent gets a new one; end its leases instead."
        )


def of_deployment(key_id: UUID, deploy_id: str) -> Request | None:
    """Return the request by which a deployment asked to rotate a key, while that is under way.

    It waits for a decision, or the rotation that it began is open. The caller has
    passed the key's gate.
    """
    if not deploy_id:
        return None
    running = rotations.open_of(key_id)
    if running is not None and running.deploy_id == deploy_id:
        return requests.by_ids([running.request_id]).get(running.request_id)
    waiting = requests.open_with(RotateKey.kind, key_id=str(key_id), deploy_id=deploy_id)
    return waiting[0] if waiting else None


def plan(*, person: User, name: str) -> RotateKey:
    """Return the action as it would be asked now, to show its plan. Raises NotVisible."""
    key = access.access_key(person, name, KeyPermission.ROTATE)
    label = people.actor(person).label
    return RotateKey(key_id=key.pk, trigger=Trigger.MANUAL, reason="", started_by=label)
