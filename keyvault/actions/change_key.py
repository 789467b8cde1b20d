"""Change how a key is delivered and what was declared about its use: asked, shown and done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, services
from approvals.ports import Change, Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_agents, about_keys, many_keys
from keyvault.connections import minting
from keyvault.invalidation import services as invalidation
from keyvault.inventory import access, changes, selectors
from keyvault.inventory import services as inventory
from keyvault.inventory.models import DeliveryMode, Key, KeyPermission, KeyState

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any
_NO_LABEL = ""


class NothingToChange(ValueError):
    """What is asked for holds already."""


class NotChangeable(Exception):
    """The key does not live, so there is nothing to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What can be changed about a live key. volume_per_day: calls."""

    delivery_mode: str
    allowed_hosts: tuple[str, ...]
    volume_per_day: int
    labels: tuple[str, ...]

    @classmethod
    def of(cls, key: Key) -> Self:
        """Return what holds for a key now."""
        return cls(
            delivery_mode=key.delivery_mode,
            allowed_hosts=tuple(key.allowed_hosts),
            volume_per_day=key.volume_per_day,
            labels=tuple(key.labels),
        )

    @classmethod
    def from_json(cls, body: Mapping[str, JSON]) -> Self:
        """Rebuild it. Raises ValueError on another shape."""
        if set(body) != set(cls.__dataclass_fields__):
            raise ValueError("The stored use has other fields than the use of a key.")
        return cls(
            delivery_mode=str(DeliveryMode(body["delivery_mode"])),
            allowed_hosts=tuple(body["allowed_hosts"]),
            volume_per_day=int(body["volume_per_day"]),
            labels=tuple(body["labels"]),
        )

    def to_json(self) -> dict[str, JSON]:
        """Return it as the plain values that a key stores."""
        return {
            "delivery_mode": str(self.delivery_mode),
            "allowed_hosts": list(self.allowed_hosts),
            "volume_per_day": self.volume_per_day,
            "labels": list(self.labels),
        }


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeKey:
    """Make one live key say what `use` says."""

    kind: ClassVar[str] = "key.change"
    title: ClassVar[str] = "Change a key"

    key_id: UUID
    use: Use

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {"key_id": str(self.key_id), "use": self.use.to_json()}

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"key_id", "use"}:
            raise ValueError("The stored action has other fields than a change of a key.")
        return cls(key_id=UUID(payload["key_id"]), use=Use.from_json(payload["use"]))

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on, before and after: the stricter of both governs."""
        return attributes(self._key(), self.use)

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owner, or the live members of the owning team."""
        return about_keys.people_of(self._key(), role)

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see the key see what is asked about it."""
        return about_keys.key_may_look(person_id, self.key_id)

    def describe(self) -> Plan:
        """Return what changes about the key; what stays is no part of it."""
        key = self._key()
        environment, warning = about_keys.environment_line(key.environment)
        return Plan(
            title=f"Change {key.name}",
            sentence=(
                f"Change what holds for the key {key.name} ({key.title}) of {key.owner} in "
                f"{environment}. Its value stays the same."
            ),
            target=Subject("key", str(key.pk), key.name),
            fingerprint=digests.act_digest(kind="key", id=key.pk),
            changes=(
                *differences(Use.of(key), self.use),
                Change("Environment", environment, environment, warning),
            ),
            body=self.to_payload(),
            breaks=breaks(Use.of(key), self.use),
            undo=f"Ask to change {key.name} back.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes this change risky."""
        return risk_points(self._key(), self.use)

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Change the row. A second try finds it changed and does nothing."""
        try:
            with transaction.atomic(durable=True):
                run.fence()
                key = changes.change_use(
                    key_id=self.key_id,
                    use=self.use.to_json(),
                    request_id=request_id,
                    actor=about_keys.WORKER,
                    now=run.now,
                )
                xact = invalidation.transaction_id()
        except inventory.WrongState as error:
            raise ports.CannotExecute("wrong_state", str(error)) from error
        run.reached("key:changed")
        effect = about_agents.gateways(invalidation.wait(xact))
        return Outcome(f"{key.name} is changed.", {"Key": key.name} | effect)

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


def ask(
    *, person: User, name: str, use: Use, reason: str, now: datetime, ticket: str = ""
) -> Request:
    """Ask that a live key says what `use` says.

    Raises NotVisible, NotChangeable, NothingToChange, about_keys.AlreadyAsked,
    and what `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        found = access.access_key(person, name, KeyPermission.MANAGE)
        # What is compared is what nobody can change any more.
        key = inventory.lock(key_id=found.pk)
        require_fit(key, use)
        if Use.of(key) == use:
            raise NothingToChange(f"That is how {key.name} is already.")
        refuse_second(key)
        action = ChangeKey(key_id=key.pk, use=use)
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )


def require_fit(key: Key, use: Use) -> None:
    """Raise NotChangeable where a key can never say what `use` says."""
    if key.state != KeyState.LIVE:
        raise NotChangeable(f"{key.name} is {key.get_state_display().lower()}.")
    if minting.mints(key.connection) and use.delivery_mode != DeliveryMode.PULL:
        raise NotChangeable(f"{key.name} keeps no value that somebody could read by hand.")


def refuse_second(key: Key) -> None:
    """Raise AlreadyAsked when an open request, of this key alone or of many, changes it already."""
    sentence = f"A change of {key.name} has been asked already."
    about_keys.refuse_second(key, ChangeKey.kind, sentence)
    for request in many_keys.changing(key.pk):
        raise about_keys.AlreadyAsked(sentence, request.pk)


def rename(
    *,
    person: User,
    name: str,
    title: str,
    now: datetime,
    require: Callable[[], None] = lambda: None,
) -> Key:
    """Give a key another title at once: policies do not read it. Raises NotVisible.

    `require` looks at it again once nobody else can change it, and raises where it is
    not the one that was seen.
    """
    with transaction.atomic(durable=True):
        key = access.access_key(person, name, KeyPermission.MANAGE)
        inventory.lock(key_id=key.pk)
        require()
        return changes.rename(key_id=key.pk, title=title, actor=people.actor(person), now=now)


def attributes(key: Key, use: Use) -> dict[str, frozenset[str]]:
    """Return what policies match on for a key before and after a change.

    A side without a label counts as the value "", or a label that is added
    could bring a laxer policy along.
    """
    labels = {label for side in (key.labels, use.labels) for label in (side or [_NO_LABEL])}
    return about_keys.attributes_of(key) | {"label": frozenset(labels)}


def risk_points(key: Key, use: Use) -> list[RiskPoint]:
    """Return what is risky about making a key say what `use` says."""
    now = Use.of(key)
    points = [RiskPoint(10, "What was approved changes", "Approvers judged it as it was.")]
    if key.environment.protected:
        text = f"{key.environment.slug} is marked protected."
        points.append(RiskPoint(25, "Protected environment", text))
    if added := sorted(set(use.allowed_hosts) - set(now.allowed_hosts)):
        points.append(RiskPoint(15, "More hosts", ", ".join(added)))
    if now.allowed_hosts and not use.allowed_hosts:
        points.append(RiskPoint(25, "Any host", "No use would look wrong any more."))
    if use.volume_per_day > now.volume_per_day:
        text = f"{now.volume_per_day:,} to {use.volume_per_day:,} calls a day."
        points.append(RiskPoint(10, "More calls", text))
    if use.delivery_mode != now.delivery_mode:
        points.append(RiskPoint(15, "Other readers", f"{_delivery(use)}."))
    return points


def differences(now: Use, then: Use) -> list[Change]:
    """Return a row of a plan for each thing that changes."""
    hosts = "" if then.allowed_hosts else "Any host"
    rows = (
        Change("Delivery", _delivery(now), _delivery(then)),
        Change("Allowed hosts", now.allowed_hosts or "any", then.allowed_hosts or "any", hosts),
        Change("Calls a day", f"{now.volume_per_day:,}", f"{then.volume_per_day:,}"),
        Change("Labels", now.labels or about_keys.NONE, then.labels or about_keys.NONE),
    )
    return [row for row in rows if row.now != row.then]


def breaks(now: Use, then: Use) -> tuple[str, ...]:
    """Return who loses what by a change."""
    if now.delivery_mode == then.delivery_mode:
        return ("Nothing that works today stops.",)
    if then.delivery_mode == DeliveryMode.PULL:
        return ("Nothing stops working. Which agents fetch it is asked for each by itself.",)
    return ("Every agent loses the right to use it, at once.",)


def _delivery(use: Use) -> str:
    return str(DeliveryMode(use.delivery_mode).label)
