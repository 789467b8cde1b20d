"""Ask a user of a key over HTTP how it is, at each rotation: asked, shown and done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
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
from keyvault.dependents import probes, probing
from keyvault.dependents import selectors as dependents
from keyvault.dependents.models import Dependent, Health
from keyvault.dependents.probing import Address
from keyvault.inventory import access, selectors
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyPermission, KeyState

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any
PRIVATE, PUBLIC = "private", "public"


class NotAskable(Exception):
    """The dependent cannot be asked over HTTP. `field` is the part that is wrong, "" for none."""

    def __init__(self, sentence: str, field: str = "") -> None:
        super().__init__(sentence)
        self.field = field


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class AddProbe:
    """Ask one address how a dependent of one key is. `allowed`: the private address that it opens, or ""."""

    kind: ClassVar[str] = "probe.add"
    title: ClassVar[str] = "Ask a user of a key over HTTP"

    key_id: UUID
    dependent_id: UUID
    address: str
    allowed: str = ""

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {
            "key_id": str(self.key_id),
            "dependent_id": str(self.dependent_id),
            "address": self.address,
            "allowed": self.allowed,
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {field.name for field in fields(cls)}:
            raise ValueError("The stored action has other fields than an address to ask.")
        return cls(
            key_id=UUID(payload["key_id"]),
            dependent_id=UUID(payload["dependent_id"]),
            address=str(payload["address"]),
            allowed=str(payload["allowed"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: the key's attributes, and into which network it reaches."""
        network = frozenset({PRIVATE if self.allowed else PUBLIC})
        return {**about_keys.attributes_of(self._key()), "network": network}

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owner, or the live members of the owning team."""
        return about_keys.people_of(self._key(), role)

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see the key see what is asked about it."""
        return about_keys.key_may_look(person_id, self.key_id)

    def describe(self) -> Plan:
        """Return who is asked where, and what an answer proves."""
        key, row = self._key(), self._dependent()
        environment, warning = about_keys.environment_line(key.environment)
        before = probes.of_dependents([row.pk]).get(row.pk)
        proves = "health and version" if row.health == Health.PROBED else "health"
        network = f"private: {self.allowed}" if self.allowed else PUBLIC
        return Plan(
            title=f"Ask {row.name} over HTTP",
            sentence=(
                f"While {key.name} is rotated, ask {self.address} how {row.name} is with it. "
                "It is a GET without a secret, and no redirect is followed."
            ),
            target=Subject("key", str(key.pk), key.name),
            fingerprint=digests.act_digest(kind="key", id=key.pk),
            changes=(
                Change("Address", before.address if before else "", self.address),
                Change("Network", "", network, "inside your own network" if self.allowed else ""),
                Change("Environment", environment, environment, warning),
                Change("Its answer proves", "", proves),
            ),
            body=self.to_payload(),
            breaks=self._breaks(row),
            undo="Whoever may have the key rotated ends it on the page of its dependents.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes asking this address risky."""
        points = [RiskPoint(5, "Decides over rotations", "Its answers send a rotation back.")]
        if self.allowed:
            text = f"keyvault connects to {self.allowed} inside your own network."
            points.append(RiskPoint(25, "Private network", text))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Have the address asked from the next rotation on. Idempotent."""
        key, row = self._key(), self._dependent()
        with transaction.atomic(durable=True):
            run.fence()
            locked = inventory.lock(key_id=key.pk)
            row.refresh_from_db()
            if locked.state != KeyState.LIVE or row.ended_at is not None:
                sentence = f"{row.name} is no registered user of {key.name} any more."
                raise ports.CannotExecute("wrong_state", sentence)
            probes.put(
                dependent=row,
                address=Address(self.address, self.allowed),
                request_id=request_id,
                actor=about_keys.WORKER,
                now=run.now,
            )
        facts = {"Key": key.name, "Dependent": row.name, "Address": self.address}
        return Outcome(f"{row.name} is asked at {self.address} while the key is rotated.", facts)

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return who uses the key."""
        del request_id
        return reverse("key-dependents", args=[self._key().name])

    def _breaks(self, row: Dependent) -> tuple[str, ...]:
        stuck = "Where it was well before and answers badly for half a minute after, it goes back."
        return (f"A rotation waits until {row.name} has answered well with the new version.", stuck)

    def _dependent(self) -> Dependent:
        return dependents.of_any_time(self.key_id, self.dependent_id)

    def _key(self) -> Key:
        key = selectors.by_id(self.key_id)
        if key is None:
            raise ports.NotVisible(f"key {self.key_id}")
        return key


def ask(
    *,
    person: User,
    key: str,
    dependent: str,
    address: str,
    is_private: bool,
    reason: str,
    now: datetime,
    ticket: str = "",
) -> Request:
    """Ask that an address is asked about the dependent of that name.

    is_private: the address lies in the own network. Raises NotVisible, NotAskable,
    about_keys.AlreadyAsked, and what `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        found = access.access_key(person, key, KeyPermission.ROTATE)
        locked = inventory.lock(key_id=found.pk)
        row = dependents.by_name(locked.pk, dependent)
        require_askable(locked, row)
        try:
            clean = probing.clean(address, is_private=is_private)
        except probing.BadAddress as error:
            raise NotAskable(str(error), "address") from error
        for other in requests.open_for_subject("key", locked.pk, act=AddProbe.kind):
            if other.payload["dependent_id"] == str(row.pk):
                raise about_keys.AlreadyAsked("An address for it was asked already.", other.pk)
        action = AddProbe(
            key_id=locked.pk, dependent_id=row.pk, address=clean.url, allowed=clean.allowed
        )
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )


def require_askable(key: Key, row: Dependent) -> None:
    """Raise NotAskable where no answer could count."""
    if key.state != KeyState.LIVE:
        raise NotAskable(f"{key.name} is {key.get_state_display().lower()}.")
    if row.health == Health.BY_HAND:
        raise NotAskable(
            f"A person says how {row.name} is. Register it anew as one that is asked over HTTP."
        )
