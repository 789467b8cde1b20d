"""Take existing keys of one owner into the inventory; nothing changes at any provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID, uuid4

from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, selectors, services
from approvals.ports import Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_keys, adoption_plan, new_adoption, new_key
from keyvault.actions.new_adoption import Adopted, Brought, Duplicate, Found
from keyvault.audit import ledger
from keyvault.connections import adopting
from keyvault.inventory import risk as risks
from keyvault.inventory import selectors as keys
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyState

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any
_FIELDS = {"batch_id", "owner_id", "asked_at", "keys"}


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptKeys:
    """Make keys of values that exist already, for one owner.

    batch_id: what the request is about, since none of the keys is it alone.
    asked_at: the moment that "how long do we know the owner" is measured from.
    """

    kind: ClassVar[str] = "key.adopt"
    title: ClassVar[str] = "Adopt existing keys"

    batch_id: UUID
    owner_id: UUID
    asked_at: datetime
    keys: tuple[Adopted, ...]

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action; the values are no part of it."""
        return {
            "batch_id": str(self.batch_id),
            "owner_id": str(self.owner_id),
            "asked_at": self.asked_at.isoformat(),
            "keys": [one.to_json() for one in self.keys],
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != _FIELDS or not payload["keys"]:
            raise ValueError("The stored action has other fields than an adoption.")
        return cls(
            batch_id=UUID(payload["batch_id"]),
            owner_id=UUID(payload["owner_id"]),
            asked_at=datetime.fromisoformat(payload["asked_at"]),
            keys=tuple(map(Adopted.from_json, payload["keys"])),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: what holds for any of the keys.

        One key of a protected environment makes the whole request protected.
        """
        found: dict[str, frozenset[str]] = {}
        read = adoption_plan.once(_attributes)
        for one in self.keys:
            asked = one.declared
            shared = read(asked.environment, asked.connection, asked.team, asked.lifetime_days)
            for name, values in {**shared, "label": frozenset(asked.labels)}.items():
                found[name] = found.get(name, frozenset()) | values
        if "yes" in found["protected"]:
            found["protected"] = frozenset({"yes"})
        return found

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owner, or the live members of the owning teams."""
        if role == "owner":
            return frozenset({self.owner_id})
        if role != "owner_team":
            return frozenset()
        teams = {one.declared.team for one in self.keys}
        return frozenset().union(*map(about_keys.members, teams))

    def visible_to(self, person_id: UUID) -> bool:
        """Let the owners, auditors and administrators see the request."""
        owners = {self.owner_id, *(one.declared.backup_owner for one in self.keys)}
        return person_id in owners or about_keys.role_may_look(person_id)

    def describe(self) -> Plan:
        """Return which values become whose keys, and where they are valid."""
        owner = people.user(self.owner_id)
        where = sorted({one.declared.connection for one in self.keys})
        count = len(self.keys)
        return Plan(
            title=adoption_plan.title(self.keys),
            sentence=adoption_plan.sentence(self.keys, owner=owner),
            target=Subject(
                "adoption", str(self.batch_id), f"{count} key{'s' * (count > 1)} of {owner}"
            ),
            fingerprint=digests.act_digest(kind="adoption", id=self.batch_id),
            changes=adoption_plan.changes(self.keys, owner=owner),
            body={
                **self.to_payload(),
                "servers": {slug: about_keys.server(new_key.connection(slug)) for slug in where},
            },
            breaks=adoption_plan.breaks(),
            undo="Revoke a key that should not be here; that needs approval of its own.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return the points of the riskiest key, and what is risky about any adopted value."""
        environment = adoption_plan.once(new_key.environment)
        known = adoption_plan.once(new_key.known_days)
        worst = max(
            (
                risks.points(
                    new_key.exposure_in(
                        one.declared,
                        environment=environment(one.declared.environment),
                        known_days=known(self.owner_id, one.declared.team, self.asked_at),
                    )
                )
                for one in self.keys
            ),
            key=_sum,
        )
        text = "Where the value has been until now is not known; its first rotation ends that."
        found = [*worst, RiskPoint(10, "A value from elsewhere", text)]
        nameless = [one for one in self.keys if not one.remote_id]
        if nameless:
            text = f"Of {len(nameless)} the id at the provider is not known: a person ends them."
            found.append(RiskPoint(5, "No call can end it", text))
        return found

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Take all of them in, or none. Idempotent on `request_id`; calls no provider."""
        with transaction.atomic(durable=True):
            run.fence()
            self._require_unmoved(request_id)
            for one in self.keys:
                self._take(one, request_id, run.now)
        run.reached("adopt:live")
        names = ", ".join(one.declared.name for one in self.keys)
        count = len(self.keys)
        what = f"{names} is" if count == 1 else f"{count} keys are"
        return Outcome(f"{what} in the inventory.", {"Keys": names})

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Delete the values of a request that ended undone, and give the names free."""
        for one in self.keys:
            inventory.release(
                key_id=one.key_id,
                request_id=request_id,
                state=state,
                actor=about_keys.WORKER,
                now=now,
            )
            adopting.drop(key_id=one.key_id, actor=about_keys.WORKER, now=now)

    def subject_url(self, request_id: UUID) -> str:
        """Return the page of the only key, once it lives."""
        key = keys.by_request(request_id) if len(self.keys) == 1 else None
        return reverse("key", args=[key.name]) if key and key.state != KeyState.REQUESTED else ""

    def _take(self, one: Adopted, request_id: UUID, now: datetime) -> None:
        """Make one key say what was approved, and put it live with its value."""
        key = inventory.lock(key_id=one.key_id)
        if key.request_id != request_id:
            raise ports.CannotExecute("wrong_request", "Another request asked for this key.")
        if key.state == KeyState.LIVE:
            return
        key = _redeclared(one, now=now)
        adopting.take(key=key, request_id=request_id, actor=about_keys.WORKER, now=now)
        inventory.go_live(key_id=key.pk, request_id=request_id, actor=about_keys.WORKER, now=now)

    def _require_unmoved(self, request_id: UUID) -> None:
        """Stop when the owner has left, or a Connection leads elsewhere than what was approved."""
        if not people.user(self.owner_id).is_active:
            raise ports.CannotExecute("owner_left", "The owner has left. Ask again for another.")
        approved = selectors.plan_of(request_id)["body"]["servers"]
        for slug, then in approved.items():
            where = new_key.connection(slug)
            if about_keys.server(where)["server"] != then["server"]:
                sentence = f"{where.title} leads to another server than the one approved."
                raise ports.CannotExecute("server_changed", f"{sentence} Ask again.")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that was opened, for one owner, and the names of its keys."""

    request: Request
    owner: User
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of the keys that somebody brought: what was asked, and what is known."""

    asked: tuple[Asked, ...]
    duplicates: tuple[Duplicate, ...]


def ask(
    *, person: User, found: Sequence[Found], reason: str, now: datetime, ticket: str = ""
) -> Imported:
    """Ask to adopt keys: one request for each owner, of those whose values are new.

    The values are sealed in the transaction that asks. Raises new_adoption.BadAdoption,
    adopting.NotOpen, and what `approvals.services.submit` raises; then nothing was asked.
    """
    adopting.require_open()
    with transaction.atomic(durable=True):
        adopting.one_at_a_time()
        brought = new_adoption.checked(found, person=person)
        fresh, duplicates = new_adoption.sift(brought, person=person)
        groups: dict[UUID, list[Brought]] = {}
        for one in fresh:
            groups.setdefault(one.owner.pk, []).append(one)
        asked = [
            _ask_for(group, person=person, reason=reason, ticket=ticket, now=now)
            for group in groups.values()
        ]
        counts = {"keys": len(found), "asked": len(fresh), "duplicates": len(duplicates)}
        ledger.record(
            "import.received",
            actor=people.actor(person),
            subject=people.subject(person),
            now=now,
            fields=counts,
        )
    return Imported(tuple(asked), tuple(duplicates))


def _ask_for(
    group: Sequence[Brought], *, person: User, reason: str, ticket: str, now: datetime
) -> Asked:
    """Reserve the names of one owner's keys, seal their values, and ask for all of them."""
    owner = group[0].owner
    adopted = tuple(_propose(one, person=person, now=now) for one in group)
    action = AdoptKeys(batch_id=uuid4(), owner_id=owner.pk, asked_at=now, keys=adopted)
    request = services.submit(
        action=action, requester=person, reason=reason, ticket=ticket, now=now
    )
    ids = [one.key_id for one in adopted]
    inventory.bind_keys(key_ids=ids, request_id=request.pk)
    adopting.bind(key_ids=ids, request_id=request.pk)
    return Asked(request, owner, tuple(one.declared.name for one in adopted))


def _propose(one: Brought, *, person: User, now: datetime) -> Adopted:
    where = new_key.connection(one.declared.connection)
    actor = people.actor(person)
    key = inventory.register(
        declared=one.declared,
        provider=where.provider,
        connection_id=where.pk,
        owner=one.owner,
        now=now,
        key_id=uuid4(),
        actor=actor,
    )
    adopting.propose(key=key, value=one.value, remote_id=one.remote_id, actor=actor, now=now)
    return Adopted(
        key_id=key.pk,
        fingerprint=one.fingerprint,
        remote_id=one.remote_id,
        declared=one.declared,
    )


def _redeclared(one: Adopted, *, now: datetime) -> Key:
    """Make the reserved row say what was approved. Raises CannotExecute."""
    where = new_key.connection(one.declared.connection)
    try:
        return inventory.redeclare(
            key_id=one.key_id,
            declared=one.declared,
            provider=where.provider,
            connection_id=where.pk,
            actor=about_keys.WORKER,
            now=now,
        )
    except (inventory.WrongState, inventory.NameTaken) as error:
        raise ports.CannotExecute("wrong_state", str(error)) from error


def _attributes(
    environment: str, connection: str, team: str, lifetime_days: int
) -> Mapping[str, frozenset[str]]:
    return about_keys.attributes(
        environment=new_key.environment(environment),
        connection=new_key.connection(connection),
        team=team,
        labels=(),
        lifetime_days=lifetime_days,
    )


def _sum(points: Sequence[RiskPoint]) -> int:
    return sum(point.points for point in points)
