"""Go on with a held rotation although not everybody is known to have moved: asked, shown and done."""

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
from keyvault.actions import about_keys
from keyvault.inventory import access, selectors
from keyvault.inventory.models import Key, KeyPermission
from keyvault.rotation import choosing
from keyvault.rotation import selectors as rotations
from keyvault.rotation import services as rotation
from keyvault.rotation.models import DeliveryState, Rotation, RotationState
from keyvault.rotation.saga import Choice

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any


class NotHeld(Exception):
    """The rotation is not held, or this is no way out of where it is."""


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRotation:
    """Let one held rotation go on whatever is seen; the plan names who may break."""

    kind: ClassVar[str] = "rotation.finish"
    title: ClassVar[str] = "Go on with a held rotation"

    rotation_id: UUID

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {"rotation_id": str(self.rotation_id)}

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"rotation_id"}:
            raise ValueError("The stored action has other fields than a held rotation.")
        return cls(rotation_id=UUID(payload["rotation_id"]))

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on."""
        return about_keys.attributes_of(self._key())

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owner, or the live members of the owning team."""
        return about_keys.people_of(self._key(), role)

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see the key see what is asked about it."""
        return about_keys.key_may_look(person_id, self._rotation().key_id)

    def describe(self) -> Plan:
        """Return which version ends, and who is not known to have the other one."""
        found, key = self._rotation(), self._key()
        behind = self._behind()
        environment, warning = about_keys.environment_line(key.environment)
        return Plan(
            title=f"Go on with the rotation of {key.name}",
            sentence=(
                f"The rotation of {key.name} is held: {found.sentence} Go on, and end the version "
                "that it leaves, without waiting for anybody."
            ),
            target=Subject("key", str(key.pk), key.name),
            fingerprint=digests.act_digest(kind="key", id=key.pk),
            changes=(
                Change("Rotation", "Held", "goes on"),
                Change("Not known to have moved", behind, ()),
                Change("Environment", environment, environment, warning),
            ),
            body={
                "rotation_id": str(found.pk),
                "held_from": found.held_from,
                "wave": found.wave,
                "behind": list(behind),
            },
            breaks=tuple(f"{name} fails if it still uses the old version." for name in behind)
            or ("Whoever still uses the old version unseen fails.",),
            undo="A version that has ended cannot be brought back.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes it risky to go on."""
        points = []
        if behind := self._behind():
            points.append(RiskPoint(25, "May break", f"{', '.join(behind)} may still use it."))
        if self._key().environment.protected:
            text = f"{self._key().environment.slug} is marked protected."
            points.append(RiskPoint(25, "Protected environment", text))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Let the rotation go on. Idempotent."""
        key, found = self._key(), self._rotation()
        if found.state == RotationState.HELD and Choice.GO_ON not in rotations.choices(found):
            raise ports.CannotExecute("wrong_state", "The rotation cannot go on like this now.")
        with transaction.atomic(durable=True):
            run.fence()
            self._require_as_approved(request_id)
            try:
                choosing.go_on(
                    rotation_id=self.rotation_id,
                    actor=about_keys.WORKER,
                    now=run.now,
                    request_id=request_id,
                )
            except rotation.WrongMoment as error:
                raise ports.CannotExecute("wrong_state", str(error)) from error
        return Outcome(f"The rotation of {key.name} goes on.", {"Key": key.name})

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return the rotation's page."""
        del request_id
        return reverse("rotation", args=[self.rotation_id])

    def _require_as_approved(self, request_id: UUID) -> None:
        """Stop a run that would end another version, or break others, than was approved."""
        found, approved = self._rotation(), requests.plan_of(request_id)["body"]
        if found.state != RotationState.HELD:
            return
        is_elsewhere = (found.held_from, found.wave) != (approved["held_from"], approved["wave"])
        if is_elsewhere or not set(self._behind()) <= set(approved["behind"]):
            sentence = "The rotation is held elsewhere, or for others, than approved. Ask again."
            raise ports.CannotExecute("wrong_state", sentence)

    def _behind(self) -> tuple[str, ...]:
        done = {DeliveryState.CONFIRMED, DeliveryState.EXCUSED}
        return tuple(
            one.dependent.name
            for one in rotations.deliveries(self.rotation_id)
            if one.state not in done
        )

    def _rotation(self) -> Rotation:
        return rotations.by_id(self.rotation_id)

    def _key(self) -> Key:
        key = selectors.by_id(self._rotation().key_id)
        if key is None:
            raise ports.NotVisible(f"rotation {self.rotation_id}")
        return key


def ask(
    *, person: User, rotation_id: UUID, reason: str, now: datetime, ticket: str = ""
) -> Request:
    """Ask to go on with a held rotation.

    Raises NotVisible, NotHeld, about_keys.AlreadyAsked, and what
    `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        found = rotations.by_id(rotation_id)
        key = access.access_key(person, found.key_id, KeyPermission.ROTATE)
        if Choice.GO_ON not in rotations.choices(found):
            raise NotHeld(f"The rotation of {key.name} cannot go on like this now.")
        sentence = f"To go on with the rotation of {key.name} has been asked already."
        about_keys.refuse_second(key, FinishRotation.kind, sentence)
        return services.submit(
            action=FinishRotation(rotation_id=found.pk),
            requester=person,
            reason=reason,
            ticket=ticket,
            now=now,
        )
