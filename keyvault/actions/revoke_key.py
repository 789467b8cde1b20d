"""Revoke a key: asked, shown and done in one file, so that a reader sees that they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, services
from approvals.ports import Change, Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts.models import User
from keyvault.actions import about_agents, about_keys, askers, revocation_plan
from keyvault.connections import issuing, minting
from keyvault.dependents import selectors as dependents
from keyvault.invalidation import services as invalidation
from keyvault.inventory import access, selectors
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyPermission, KeyState
from keyvault.rotation import delivering
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any


class NotRevocable(Exception):
    """The key does not live, so there is nothing to revoke."""


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeKey:
    """End every version of one key at its provider, and the sessions that they opened."""

    kind: ClassVar[str] = "key.revoke"
    title: ClassVar[str] = "Revoke a key"

    key_id: UUID
    kill_sessions: bool = True

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {"key_id": str(self.key_id), "kill_sessions": self.kill_sessions}

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"key_id", "kill_sessions"}:
            raise ValueError("The stored action has other fields than a revocation.")
        return cls(key_id=UUID(payload["key_id"]), kill_sessions=bool(payload["kill_sessions"]))

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
        """Return which credentials end where, and what that breaks."""
        key = self._key()
        live = versions.live(key.pk)
        environment, warning = about_keys.environment_line(key.environment)
        ends = tuple(revocation_plan.label(version, key) for version in live)
        return Plan(
            title=f"Revoke {key.name}",
            sentence=(
                f"Revoke the key {key.name} ({key.title}) of {key.owner} in {environment}: "
                f"{revocation_plan.ending(key, len(live))} at {key.connection.title}, for good."
            ),
            target=Subject("key", str(key.pk), key.name),
            fingerprint=digests.act_digest(kind="key", id=key.pk),
            changes=(
                Change("State", "Active", "Revoked"),
                Change("Versions that work", ends, ()),
                Change("Environment", environment, environment, warning),
                Change("Connection", revocation_plan.place(key), revocation_plan.place(key)),
                Change(
                    "Open sessions", "stay open", revocation_plan.sessions(kill=self.kill_sessions)
                ),
                Change("Name", key.name, f"{key.name}, never used again"),
            ),
            body={
                "key_id": str(key.pk),
                "versions": [str(version.pk) for version in live],
                **about_keys.server(key.connection),
                "kill_sessions": self.kill_sessions,
            },
            breaks=(
                f"Whatever uses {key.name} is refused from the moment it is done.",
                *revocation_plan.unreported(key),
                *revocation_plan.by_hand(live, key),
                *(f"Its value is removed from {row.name}." for row in dependents.places_of(key.pk)),
            ),
            undo="A revocation cannot be undone. The way back is to ask for a new key.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes stopping this key risky."""
        key = self._key()
        points = [revocation_plan.use(key)]
        if key.environment.protected:
            text = f"{key.environment.slug} is marked protected."
            points.append(RiskPoint(25, "Protected environment", text))
        if key.volume_per_day:
            text = f"{key.volume_per_day:,} calls a day were declared."
            points.append(RiskPoint(10, "Declared in use", text))
        if key.external_input:
            text = "An agent that reads outside text holds it."
            points.append(RiskPoint(-5, "Stopping it lowers exposure", text))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Revoke at the provider, then in the inventory. Idempotent on `request_id`.

        Each version is ended at the server that issued it, so that a Connection
        which was changed while this ran is no reason to stop by itself.
        """
        key = self._key()
        issuing.revoke(
            key=key,
            request_id=request_id,
            run=run,
            actor=about_keys.WORKER,
            kill_sessions=self.kill_sessions,
            on_revoked=lambda: _end(self.key_id, request_id, run.now),
        )
        # A key without a version that works has nothing to revoke there, and ends all the same.
        with transaction.atomic(durable=True):
            run.fence()
            _end(self.key_id, request_id, run.now)
            # It began after whatever ended the key had been committed, so it stands for that too.
            xact = invalidation.transaction_id()
        run.reached("revoke:closed")
        facts = {"Key": key.name} | about_agents.gateways(invalidation.wait(xact))
        what = "every version of it" if not minting.mints(key.connection) else "its leases end"
        return Outcome(f"{key.name} is revoked, {what}.", facts)

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


def act_digest(shown: Plan) -> str:
    """Return what the asker's fresh factor is bound to: the plan that the page showed."""
    return digests.act_digest(kind="revoke", plan=shown.to_json())


def ask(
    *,
    person: User,
    name: str,
    reason: str,
    now: datetime,
    ticket: str = "",
    proof_id: UUID | None = None,
    agent_id: UUID | None = None,
) -> Request:
    """Ask to revoke a key. `agent_id`: the person's agent that asks for it.

    A page gives the proof of a fresh factor, which is used up here; a machine
    that may only ask has none. Raises NotVisible, NotRevocable, NotPresent,
    about_keys.AlreadyAsked, and what `askers.admit` and `approvals.services.submit` raise.
    """
    with transaction.atomic(durable=True):
        asked_by = askers.admit(agent_id)
        key = access.access_key(person, name, KeyPermission.REVOKE)
        inventory.lock(key_id=key.pk)
        if key.state not in {KeyState.LIVE, KeyState.SUSPENDED}:
            raise NotRevocable(f"{key.name} is {key.get_state_display().lower()}.")
        about_keys.refuse_second(
            key, RevokeKey.kind, f"To revoke {key.name} has been asked already."
        )
        action = RevokeKey(key_id=key.pk)
        if proof_id is not None:
            digest = act_digest(action.describe())
            ports.presence().consume(proof_id, person_id=person.pk, digest=digest, now=now)
        return services.submit(
            action=action,
            requester=person,
            reason=reason,
            ticket=ticket,
            now=now,
            asked_by=asked_by,
        )


def plan(*, person: User, name: str) -> RevokeKey:
    """Return the action as it would be asked now, to show its plan. Raises NotVisible."""
    return RevokeKey(key_id=access.access_key(person, name, KeyPermission.REVOKE).pk)


def _end(key_id: UUID, request_id: UUID, now: datetime) -> None:
    """End the key unless a version has come meanwhile; the next try ends that one, too."""
    inventory.lock(key_id=key_id)
    if versions.live(key_id):
        raise ports.Unfinished("version_came", "A version was made meanwhile; it is ended next.")
    for row in dependents.places_of(key_id):
        delivering.promise_removal(row.pk)
    try:
        inventory.revoke(key_id=key_id, request_id=request_id, actor=about_keys.WORKER, now=now)
    except inventory.WrongState as error:
        raise ports.CannotExecute("wrong_state", str(error)) from error
