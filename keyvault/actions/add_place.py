"""Write a key to a place, now and at each rotation: asked, shown and done."""

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
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_keys, about_places
from keyvault.connections import checks, drafts, minting
from keyvault.connections import selectors as connections
from keyvault.connections.models import Connection
from keyvault.dependents import selectors as dependents
from keyvault.dependents import services as registry
from keyvault.inventory import access, selectors
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyPermission, KeyState
from keyvault.rotation import delivering

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any
NAME_CHARS = 120


class NotPlaceable(Exception):
    """The key cannot be written there. `field` is the part that is wrong, "" for none."""

    def __init__(self, sentence: str, field: str = "") -> None:
        super().__init__(sentence)
        self.field = field


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class AddPlace:
    """Push one key to one place of a destination, the current version and each later one.

    target: the settings that name the place. wave: in which step of a rollout it
    moves. cache_s: how long whoever reads there may keep a value, in seconds.
    seen: what a check of the place has shown when it was asked; None for none.
    """

    kind: ClassVar[str] = "place.add"
    title: ClassVar[str] = "Write a key to a place"

    key_id: UUID
    connection_id: UUID
    name: str
    target: Mapping[str, str]
    wave: int = 0
    cache_s: int = 0
    seen: about_places.Seen | None = None

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {
            "key_id": str(self.key_id),
            "connection_id": str(self.connection_id),
            "name": self.name,
            "target": dict(self.target),
            "wave": self.wave,
            "cache_s": self.cache_s,
            # What was asked by an older release was not looked at, and keeps its digest.
            **({"seen": self.seen.to_json()} if self.seen else {}),
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) | {"seen"} != {field.name for field in fields(cls)}:
            raise ValueError("The stored action has other fields than a place.")
        return cls(
            key_id=UUID(payload["key_id"]),
            connection_id=UUID(payload["connection_id"]),
            name=str(payload["name"]),
            target={str(name): str(text) for name, text in payload["target"].items()},
            wave=int(payload["wave"]),
            cache_s=int(payload["cache_s"]),
            seen=about_places.Seen.from_json(payload["seen"]) if "seen" in payload else None,
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: the key's attributes and the destination's."""
        return about_places.attributes(about_keys.attributes_of(self._key()), self._connection())

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owner, or the live members of the owning team."""
        return about_keys.people_of(self._key(), role)

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see the key see what is asked about it."""
        return about_keys.key_may_look(person_id, self.key_id)

    def describe(self) -> Plan:
        """Return which key is written where, and what that opens."""
        key, connection = self._key(), self._connection()
        environment, warning = about_keys.environment_line(key.environment)
        return Plan(
            title=f"Write {key.name} to {self.name}",
            sentence=(
                f"Write the value of {key.name} ({key.title}, {environment}) to {self.name} at "
                f"{connection.title}, now and each time it is rotated."
            ),
            target=Subject("key", str(key.pk), key.name),
            fingerprint=digests.act_digest(kind="key", id=key.pk),
            changes=(
                Change("Place", "", self.name),
                *about_places.rows(connection, self.target, is_new=True),
                Change("Environment", environment, environment, warning),
                Change("Wave of a rollout", "", str(self.wave)),
                *((self.seen.row(),) if self.seen else ()),
            ),
            body=self.to_payload() | about_keys.server(connection),
            breaks=(
                f"Whoever can read at {self.name} can read the value, and no ledger of ours sees it.",
                "A value that lies there and is not of keyvault stays; then nothing is written.",
            ),
            undo="Ask to have it removed there. What was read by then stays read.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes laying this key there risky."""
        points = [RiskPoint(20, "A copy elsewhere", "keyvault does not see who reads it there.")]
        if "yes" in self.attributes()["protected"]:
            text = "The key or the destination serves a protected environment."
            points.append(RiskPoint(25, "Protected environment", text))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Register the place and have the current version written there. Idempotent."""
        key, connection = self._key(), self._connection()
        planned = requests.plan_of(request_id)["body"]
        if planned["server"] != about_keys.server(connection)["server"]:
            sentence = f"{connection.title} leads to another server than the one approved."
            raise ports.CannotExecute("server_changed", f"{sentence} Ask again.")
        with transaction.atomic(durable=True):
            run.fence()
            self._register(inventory.lock(key_id=key.pk), connection, request_id, run.now)
        facts = {"Key": key.name, "Place": self.name}
        return Outcome(f"{key.name} is being written to {self.name}.", facts)

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return who uses the key."""
        del request_id
        return reverse("key-dependents", args=[self._key().name])

    def _register(self, key: Key, connection: Connection, request_id: UUID, now: datetime) -> None:
        if key.state != KeyState.LIVE:
            sentence = f"{key.name} is {key.get_state_display().lower()}."
            raise ports.CannotExecute("wrong_state", sentence)
        try:
            row = registry.register_place(
                key=key,
                name=self.name,
                connection=connection,
                target=self.target,
                wave=self.wave,
                cache_s=self.cache_s,
                request_id=request_id,
                now=now,
                actor=about_keys.WORKER,
            )
        except (registry.NameTaken, registry.PlaceTaken) as error:
            raise ports.CannotExecute("taken", str(error)) from error
        delivering.promise(row.pk)

    def _connection(self) -> Connection:
        return connections.by_id(self.connection_id)

    def _key(self) -> Key:
        key = selectors.by_id(self.key_id)
        if key is None:
            raise ports.NotVisible(f"key {self.key_id}")
        return key


@dataclass(frozen=True, slots=True)
class Looked:
    """A place that may be asked for, as its asker names it, and what was seen there."""

    key: str
    connection: str
    target: Mapping[str, str]
    seen: about_places.Seen


def look(
    *, person: User, key: str, connection: str, target: Mapping[str, str], now: datetime
) -> Looked:
    """Check a place by reading only, before it is asked for; outermost.

    Raises NotVisible, NotPlaceable, checks.TooMany, drafts.BadDraft with a fault for each
    setting of the target.
    """
    found = access.access_key(person, key, KeyPermission.ROTATE)
    where = _destination(person, connection, found)
    clean = drafts.clean_fields(target, schema=connections.target_schema(where.provider))
    checked = checks.check_place(
        connection=where,
        target=clean,
        subject=Subject("key", str(found.pk), found.name),
        actor=people.actor(person),
        now=now,
    )
    return Looked(key, connection, clean, about_places.Seen(now, checked.problems))


def ask(
    *,
    person: User,
    place: Looked,
    name: str,
    reason: str,
    now: datetime,
    wave: int = 0,
    cache_s: int = 0,
    ticket: str = "",
) -> Request:
    """Ask that a key is written to a place that `look` has seen just now.

    Whatever stands in the way is told to those who decide, and hinders no request. Raises
    NotVisible, NotPlaceable, about_keys.AlreadyAsked, and what `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        found = access.access_key(person, place.key, KeyPermission.ROTATE)
        locked = inventory.lock(key_id=found.pk)
        where = _destination(person, place.connection, locked)
        action = AddPlace(
            key_id=locked.pk,
            connection_id=where.pk,
            name=" ".join(name.split()),
            target=place.target,
            wave=wave,
            cache_s=cache_s,
            seen=place.seen,
        )
        _require_free(locked, action)
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )


def destinations(person: User, key: Key) -> list[Connection]:
    """Return the destinations at which a key may be laid: those that serve its environment."""
    return [
        row
        for row in connections.destination_choices(person)
        if row.environment_id in {None, key.environment_id}
    ]


def _destination(person: User, slug: str, key: Key) -> Connection:
    if key.state != KeyState.LIVE:
        raise NotPlaceable(f"{key.name} is {key.get_state_display().lower()}.")
    if minting.mints(key.connection):
        raise NotPlaceable(f"{key.name} keeps no value that could be written to a place.")
    for row in destinations(person, key):
        if row.slug == slug:
            return row
    raise NotPlaceable("Choose one of the destinations that serve its environment.", "connection")


def _require_free(key: Key, action: AddPlace) -> None:
    """Raise NotPlaceable or AlreadyAsked where the name or the place is taken."""
    if not 0 < len(action.name) <= NAME_CHARS:
        raise NotPlaceable("Give it a name that people know it by.", "name")
    if action.name in {row.name for row in dependents.of_key(key.pk)}:
        raise NotPlaceable(f"{action.name} is a dependent of {key.name} already.", "name")
    if other := dependents.at_place(action.connection_id, action.target):
        raise NotPlaceable(f"{other.key.name} is written to this place already.")
    wanted = action.to_payload()
    for row in requests.open_for_subject("key", key.pk, act=AddPlace.kind):
        if all(row.payload[part] == wanted[part] for part in ("connection_id", "target")):
            raise about_keys.AlreadyAsked("This place has been asked for already.", row.pk)
