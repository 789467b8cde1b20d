"""Reveal a value once: asked, shown, approved, and then opened by one person at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, services
from approvals import selectors as requests
from approvals.ports import Change, Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_keys
from keyvault.connections import places
from keyvault.inventory import access, changes, selectors
from keyvault.inventory import services as inventory
from keyvault.inventory.models import DeliveryMode, Key, KeyPermission
from keyvault.vault import reveals
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from approvals.models import Request
    from keyvault.vault.models import Version

JSON = Any
WINDOW = timedelta(hours=24)
ROTATE_WITHIN = timedelta(hours=24)
SEEN = "seen by a person"


class NotRevealable(Exception):
    """Refuse a version that is not current, was revealed before, or that nobody approved."""


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class RevealSecret:
    """Let one person read one version of a key, once, within 24 h of the approval."""

    kind: ClassVar[str] = "secret.reveal"
    title: ClassVar[str] = "Reveal a value"

    key_id: UUID
    version_id: UUID
    person_id: UUID

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action; it holds no secret."""
        return {
            "key_id": str(self.key_id),
            "version_id": str(self.version_id),
            "person_id": str(self.person_id),
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"key_id", "version_id", "person_id"}:
            raise ValueError("The stored action has other fields than a reveal.")
        return cls(**{name: UUID(value) for name, value in payload.items()})

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on."""
        return about_keys.attributes_of(self._key())

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owner, or the live members of the owning team."""
        return about_keys.people_of(self._key(), role)

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see the key see what is asked about it."""
        return about_keys.key_may_look(person_id, self.key_id)

    def describe(self) -> Plan:
        """Return which version one person will read, and what follows from that."""
        key, version = self._key(), versions.version(self.version_id)
        person = people.user(self.person_id)
        environment, warning = about_keys.environment_line(key.environment)
        label = f"v{version.number} of {key.name}"
        return Plan(
            title=f"Reveal {label}",
            sentence=f"Show the value of {label} ({key.title}, {environment}) to {person}, once.",
            target=Subject("key", str(key.pk), key.name),
            fingerprint=version.fingerprint or digests.act_digest(kind="key", id=key.pk),
            changes=(
                Change("Who reads it", "", str(person)),
                Change("Version", "", f"v{version.number}: {places.id_of(version)}"),
                Change("Environment", environment, environment, warning),
                Change("Times", "", "once, for 60 seconds"),
                Change("Opens until", "", "24 hours after the approval"),
                Change("Afterwards", "", "A rotation is due within 24 hours"),
            ),
            body={
                "key_id": str(key.pk),
                "version_id": str(version.pk),
                "person_id": str(person.pk),
            },
            breaks=("Nothing stops working. The value is then also where a person put it.",),
            undo="What was seen cannot be unseen. Rotating the key makes it worthless.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes showing this value risky."""
        key = self._key()
        points = [RiskPoint(15, "A person holds the value", "It leaves the vault for a screen.")]
        if key.environment.protected:
            text = f"{key.environment.slug} is marked protected."
            points.append(RiskPoint(25, "Protected environment", text))
        if key.delivery_mode != DeliveryMode.REVEAL:
            text = "Agents fetch it by API, so a person rarely needs it."
            points.append(RiskPoint(20, "Not meant for people", text))
        if not key.allowed_hosts:
            text = "No allowed host is named, so no use looks wrong."
            points.append(RiskPoint(15, "Any host", text))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Change nothing: from now on the person may open the reveal page once."""
        del request_id
        version = versions.version(self.version_id)
        if version.state != "current" or version.revealed_at is not None:
            raise ports.CannotExecute("not_revealable", "This version cannot be revealed any more.")
        run.fence()
        return Outcome(
            f"{people.user(self.person_id)} may open v{version.number} once within 24 hours.",
            {"Key": version.key.name, "Version": f"v{version.number}"},
        )

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return the key's page."""
        del request_id
        return reverse("key", args=[self._key().name])

    def _key(self) -> Key:
        key = selectors.by_id(self.key_id)
        if key is None:
            raise ports.NotVisible(f"key {self.key_id}")
        return key


def ask(*, person: User, name: str, reason: str, now: datetime, ticket: str = "") -> Request:
    """Ask to see the current value of a key.

    Raises NotVisible, NotRevealable, about_keys.AlreadyAsked, and what
    `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        key = access.access_key(person, name, KeyPermission.REVEAL)
        inventory.lock(key_id=key.pk)
        version = versions.current(key.pk)
        if version is None:
            raise NotRevealable(f"{key.name} has no current version.")
        if version.revealed_at is not None:
            raise NotRevealable(
                f"v{version.number} was revealed to {version.revealed_by} already. "
                "Only a new value can be revealed."
            )
        about_keys.refuse_second(key, RevealSecret.kind, f"{key.name} is asked for already.")
        standing = permit(person=person, version=version, now=now)
        if standing is not None:
            raise about_keys.AlreadyAsked("It is approved: open the reveal page.", standing)
        return services.submit(
            action=RevealSecret(key_id=key.pk, version_id=version.pk, person_id=person.pk),
            requester=person,
            reason=reason,
            ticket=ticket,
            now=now,
        )


def plan(*, person: User, name: str) -> RevealSecret:
    """Return the action as it would be asked now. Raises NotVisible: nothing to reveal, too."""
    key = access.access_key(person, name, KeyPermission.REVEAL)
    version = versions.current(key.pk)
    if version is None:
        raise ports.NotVisible(f"a current version of {name}")
    return RevealSecret(key_id=key.pk, version_id=version.pk, person_id=person.pk)


def permit(*, person: User, version: Version, now: datetime) -> UUID | None:
    """Return the approved request that lets a person open a version now, or None."""
    wanted = {"version_id": str(version.pk), "person_id": str(person.pk)}
    found = requests.done_for_subject(
        "key", version.key_id, act=RevealSecret.kind, since=now - WINDOW
    )
    for request in found:
        if wanted.items() <= request.payload.items() and request.requester_id == person.pk:
            return request.pk
    return None


@dataclass(frozen=True, slots=True)
class Door:
    """What a person finds before the reveal: the version, and the request that opens it."""

    key: Key
    version: Version
    request_id: UUID | None


def door(*, person: User, name: str, number: int, now: datetime) -> Door:
    """Return how a version stands towards being revealed. Raises NotVisible."""
    key = access.access_key(person, name, KeyPermission.REVEAL)
    version = versions.by_number(key.pk, number)
    return Door(key, version, permit(person=person, version=version, now=now))


def act_digest(found: Door, *, person: User) -> str:
    """Return what the second factor is bound to. Raises NotRevealable: nothing is approved."""
    if found.request_id is None:
        raise NotRevealable("No approved request opens this version.")
    return reveals.act_digest(
        version_id=found.version.pk, person_id=person.pk, request_id=found.request_id
    )


def reveal(*, person: User, found: Door, proof_id: UUID, now: datetime) -> reveals.Revealed:
    """Open a version once, for the person whom an approved request names.

    That a rotation is due is written before the value is opened: a crash in
    between costs a needless rotation and never leaves a seen value in use.
    Raises NotRevealable, reveals.AlreadyRevealed, ports.NotPresent.
    """
    request_id = permit(person=person, version=found.version, now=now)
    if request_id is None:
        raise NotRevealable("No approved request opens this version.")
    if found.version.revealed_at is None:
        with transaction.atomic(durable=True):
            changes.want_rotation(
                key_id=found.key.pk,
                cause=SEEN,
                due_at=now + ROTATE_WITHIN,
                request_id=request_id,
                actor=people.actor(person),
                now=now,
            )
    return reveals.reveal(
        version_id=found.version.pk,
        person=person,
        proof_id=proof_id,
        request_id=request_id,
        now=now,
    )
