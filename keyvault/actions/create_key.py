"""Create a key: asked, shown and done in one file, so that a reader sees that they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID, uuid4

from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, services
from approvals.ports import Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_keys, askers, key_plan, new_key
from keyvault.connections import issuing, minting
from keyvault.connections.calls import Errand
from keyvault.connections.models import Connection
from keyvault.inventory import risk as risks
from keyvault.inventory import selectors
from keyvault.inventory import services as inventory
from keyvault.inventory.declaration import Declaration
from keyvault.inventory.models import Environment, Key, KeyState

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKey:
    """Create one credential at a Connection and give it to its owner.

    asked_at: the moment that "how long do we know the asker" is measured from.
    """

    kind: ClassVar[str] = new_key.CREATE
    title: ClassVar[str] = "Create a key"

    key_id: UUID
    owner_id: UUID
    asked_at: datetime
    declared: Declaration

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action; it holds no secret."""
        return {
            "key_id": str(self.key_id),
            "owner_id": str(self.owner_id),
            "asked_at": self.asked_at.isoformat(),
            "declared": self.declared.to_json(),
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"key_id", "owner_id", "asked_at", "declared"}:
            raise ValueError("The stored action has other fields than a creation.")
        return cls(
            key_id=UUID(payload["key_id"]),
            owner_id=UUID(payload["owner_id"]),
            asked_at=datetime.fromisoformat(payload["asked_at"]),
            declared=Declaration.from_json(payload["declared"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on."""
        return about_keys.attributes(
            environment=self._environment(),
            connection=self._connection(),
            team=self.declared.team,
            labels=self.declared.labels,
            lifetime_days=self.declared.lifetime_days,
        )

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owner, or the live members of the owning team."""
        if role == "owner":
            return frozenset({self.owner_id})
        return about_keys.members(self.declared.team) if role == "owner_team" else frozenset()

    def visible_to(self, person_id: UUID) -> bool:
        """Let the owners, auditors and administrators see the request."""
        owners = {self.owner_id, self.declared.backup_owner}
        return person_id in owners or about_keys.role_may_look(person_id)

    def describe(self) -> Plan:
        """Return which credential will exist where, for whom and for how long."""
        declared, connection, environment = self.declared, self._connection(), self._environment()
        owner, team = people.user(self.owner_id), people.team_by_slug(declared.team)
        return Plan(
            title=f"Create {declared.name}",
            sentence=(
                f"Create the key {declared.name} at {connection.title} for {owner} of {team}, "
                f"for use in {environment.slug}, for {about_keys.days(declared.lifetime_days)}."
            ),
            target=Subject("key", str(self.key_id), declared.name),
            fingerprint=digests.act_digest(kind="key", id=self.key_id),
            changes=key_plan.changes(
                declared,
                connection=connection,
                environment=environment,
                owner=owner,
                backup=people.user(declared.backup_owner) if declared.backup_owner else None,
                team=str(team),
            ),
            body={
                "key_id": str(self.key_id),
                "declared": declared.to_json(),
                "protected": environment.protected,
                **about_keys.server(connection),
            },
            breaks=(key_plan.effect(connection),),
            undo=f"Revoke {declared.name}; that needs approval of its own.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return the points that add up to the risk of this key."""
        return risks.points(self.exposure())

    def exposure(self) -> risks.Exposure:
        """Return the facts that the risk hangs on."""
        return new_key.exposure(
            self.declared,
            environment=self._environment(),
            owner_id=self.owner_id,
            asked_at=self.asked_at,
        )

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Create the credential, seal it and put the key live. Idempotent on `request_id`."""
        if (key := self._settle_row(request_id, run)).state != KeyState.LIVE:
            about_keys.require_server(key, request_id)
        if minting.mints(key.connection):
            return self._admit(key, request_id, run)
        version = issuing.issue(
            key=key,
            request_id=request_id,
            run=run,
            actor=about_keys.WORKER,
            on_promoted=lambda _: self._go_live(request_id, run.now),
        )
        run.reached("create:live")
        facts = {"Key": key.name, "Version": f"v{version.number}"}
        return Outcome(f"{key.name} exists at {key.connection.title} as v{version.number}.", facts)

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Give the name free when the request ends undone."""
        inventory.release(
            key_id=self.key_id, request_id=request_id, state=state, actor=about_keys.WORKER, now=now
        )

    def subject_url(self, request_id: UUID) -> str:
        """Return the key's page, once it has a life of its own."""
        key = selectors.by_request(request_id)
        return reverse("key", args=[key.name]) if key and key.state != KeyState.REQUESTED else ""

    def edit_url(self, request_id: UUID) -> str:
        """Return the form that revises the request."""
        return reverse("request-edit", args=[request_id])

    def again_url(self, request_id: UUID) -> str:
        """Return the form filled with what was asked, but for the reason."""
        return f"{reverse('request-new')}?again={request_id}"

    def _admit(self, key: Key, request_id: UUID, run: Run) -> Outcome:
        """Put a key live of which each run gets a credential of its own: there is no version."""
        if key.state != KeyState.LIVE:
            minting.prepare(Errand(key, request_id, run, about_keys.WORKER))
            run.reached("create:prepared")
            with transaction.atomic(durable=True):
                run.fence()
                self._go_live(request_id, run.now, rotates=False)
        run.reached("create:live")
        return Outcome(f"{key.name} can be lent to agents, for one run each.", {"Key": key.name})

    def _settle_row(self, request_id: UUID, run: Run) -> Key:
        """Make the row say what was approved, whatever it says by now. Raises CannotExecute."""
        with transaction.atomic(durable=True):
            run.fence()
            key = inventory.lock(key_id=self.key_id)
            if key.request_id != request_id:
                raise ports.CannotExecute("wrong_request", "Another request asked for this key.")
            if key.state != KeyState.LIVE:
                redeclare(self, now=run.now)
        found = selectors.by_id(self.key_id)
        if found is None:
            raise ports.CannotExecute("gone", "The key that was asked for no longer exists.")
        return found

    def _go_live(self, request_id: UUID, now: datetime, *, rotates: bool = True) -> None:
        """Put the key live, in the transaction that makes its first version current if it has one."""
        try:
            inventory.go_live(
                key_id=self.key_id,
                request_id=request_id,
                actor=about_keys.WORKER,
                now=now,
                rotates=rotates,
            )
        except inventory.WrongState as error:
            raise ports.CannotExecute("wrong_state", str(error)) from error

    def _connection(self) -> Connection:
        return new_key.connection(self.declared.connection)

    def _environment(self) -> Environment:
        return new_key.environment(self.declared.environment)


def redeclare(action: CreateKey, *, now: datetime) -> Key:
    """Make the reserved row say what the action says. Raises CannotExecute once it lived."""
    connection = new_key.connection(action.declared.connection)
    try:
        return inventory.redeclare(
            key_id=action.key_id,
            declared=action.declared,
            provider=connection.provider,
            connection_id=connection.pk,
            actor=about_keys.WORKER,
            now=now,
        )
    except (inventory.WrongState, inventory.NameTaken) as error:
        raise ports.CannotExecute("wrong_state", str(error)) from error


def ask(
    *,
    person: User,
    declared: Declaration,
    reason: str,
    now: datetime,
    ticket: str = "",
    key_id: UUID | None = None,
    agent_id: UUID | None = None,
) -> Request:
    """Reserve the name and ask for the key. `agent_id`: the person's agent that asks for it.

    A form gives the same `key_id` each time it is sent, so that a second press cannot make a
    second key: `asked_before` finds the first. Settings left empty are completed. Raises
    new_key.BadDeclaration, inventory.NameTaken, and what `askers.admit` and
    `approvals.services.submit` raise.
    """
    with transaction.atomic(durable=True):
        asked_by = askers.admit(agent_id)
        declared = new_key.checked(declared, person=person)
        where = new_key.connection(declared.connection)
        key = inventory.register(
            declared=declared,
            provider=where.provider,
            connection_id=where.pk,
            owner=person,
            now=now,
            key_id=key_id or uuid4(),
        )
        action = CreateKey(key_id=key.pk, owner_id=person.pk, asked_at=now, declared=declared)
        request = services.submit(
            action=action,
            requester=person,
            reason=reason,
            ticket=ticket,
            now=now,
            asked_by=asked_by,
        )
        inventory.bind_request(key=key, request_id=request.pk)
        return request


def asked_before(*, person: User, key_id: UUID) -> UUID | None:
    """Return the request that this person has made under a form's key id, or None."""
    key = selectors.by_id(key_id)
    return key.request_id if key is not None and key.owner_id == person.pk else None


def preview(*, person: User, declared: Declaration, now: datetime) -> CreateKey:
    """Return the action as asked now. Raises NotVisible while a needed choice is missing."""
    full = new_key.completed(declared)
    action = CreateKey(key_id=uuid4(), owner_id=person.pk, asked_at=now, declared=full)
    action.attributes()
    return action


def revise(
    *,
    person: User,
    request_id: UUID,
    declared: Declaration,
    reason: str,
    now: datetime,
    ticket: str = "",
) -> Request:
    """Replace what a pending request asks for; every decision on it is cleared.

    Raises NotVisible, new_key.BadDeclaration, inventory.NameTaken, and what
    `approvals.services.revise` raises.
    """
    with transaction.atomic(durable=True):
        key = new_key.reserved_by(request_id, person=person)
        declared = new_key.checked(declared, person=person)
        connection = new_key.connection(declared.connection)
        action = CreateKey(
            key_id=key.pk, owner_id=key.owner_id, asked_at=key.created_at, declared=declared
        )
        # First the request and then the key, as every end of a request locks them.
        request = services.revise(
            request_id=request_id,
            action=action,
            person=person,
            now=now,
            reason=reason,
            ticket=ticket,
        )
        inventory.redeclare(
            key_id=key.pk,
            declared=declared,
            provider=connection.provider,
            connection_id=connection.pk,
            actor=people.actor(person),
            now=now,
        )
        return request
