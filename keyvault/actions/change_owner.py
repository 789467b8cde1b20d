"""Let other people answer for an agent: asked, shown and done.

It is the mend for an agent whose owner and backup owner have left. Whoever
answers for an agent can give it a way to prove itself, and read through it
(R34): so others agree to it, and the people proposed never do.
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
from approvals.ports import Outcome, Plan, RiskPoint, Run
from keyvault.accounts import administrators
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_agents, about_keys, new_grant, owner_plan
from keyvault.agents import access, ownership
from keyvault.agents import services as registry
from keyvault.agents.access import AgentPermission
from keyvault.agents.models import Agent
from keyvault.inventory.models import Key

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any
_FIELDS = {"agent_id", "owner_id", "backup_owner_id"}


class NothingToChange(ValueError):
    """These people answer for the agent already."""


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOwner:
    """Make one person the owner of one agent, and another one, or nobody, the backup owner."""

    kind: ClassVar[str] = "agent.change_owner"
    title: ClassVar[str] = "Change who answers for an agent"

    agent_id: UUID
    owner_id: UUID
    backup_owner_id: UUID | None

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        backup = self.backup_owner_id
        return {
            "agent_id": str(self.agent_id),
            "owner_id": str(self.owner_id),
            "backup_owner_id": str(backup) if backup else None,
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != _FIELDS:
            raise ValueError("The stored action has other fields than a change of an owner.")
        backup = payload["backup_owner_id"]
        return cls(
            agent_id=UUID(payload["agent_id"]),
            owner_id=UUID(payload["owner_id"]),
            backup_owner_id=UUID(backup) if backup else None,
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on for every key of the agent, and the teams that decide."""
        return about_agents.attributes(self._keys()) | {"team": self._teams()}

    def people(self, role: str) -> frozenset[UUID]:
        """Return who answers for the agent now or then, or the live members of the teams.

        Each account of the human who is proposed counts as that human, by the policy.
        """
        if role == about_agents.OWNERS:
            return about_agents.owners([self._agent()])
        if role == about_agents.NEW_OWNER:
            return frozenset({self.owner_id})
        if role == about_agents.NEW_BACKUP:
            return frozenset({self.backup_owner_id} if self.backup_owner_id else ())
        if role != "owner_team":
            return frozenset()
        return frozenset[UUID]().union(*(about_keys.members(team) for team in self._teams()))

    def visible_to(self, person_id: UUID) -> bool:
        """Let the people proposed, and whoever may see the agent, see what is asked about it."""
        is_proposed = person_id in {self.owner_id, self.backup_owner_id}
        return is_proposed or about_agents.may_look(person_id, self._agent())

    def describe(self) -> Plan:
        """Return who answers for the agent then, and which keys they can read through it."""
        agent, owner, backup = self._agent(), self._owner(), self._backup()
        return Plan(
            title=owner_plan.title(agent, owner=owner, backup=backup),
            sentence=owner_plan.sentence(agent, owner=owner, backup=backup),
            target=about_agents.target(agent),
            fingerprint=digests.act_digest(kind="agent", id=agent.pk),
            changes=owner_plan.changes(agent, owner=owner, backup=backup, keys=self._keys()),
            body=self.to_payload(),
            breaks=owner_plan.breaks(agent, owner=owner, backup=backup),
            undo=f"Whoever answers for {agent.name} then asks to change it back.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes it risky to let these people answer for the agent."""
        agent = self._agent()
        return owner_plan.risk(agent, owner=self._owner(), backup=self._backup(), keys=self._keys())

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Write it. A second try finds it written and changes nothing."""
        try:
            with transaction.atomic(durable=True):
                run.fence()
                # Nobody is deactivated, or leaves the team, between the check and the commit.
                administrators.lock()
                agent = registry.lock(agent_id=self.agent_id)
                if not self._holds_of(agent):
                    about_agents.require_as_approved(self, request_id)
                agent = ownership.change(
                    agent_id=self.agent_id,
                    owner_id=self.owner_id,
                    backup_owner_id=self.backup_owner_id,
                    actor=about_keys.WORKER,
                    now=run.now,
                    request_id=request_id,
                )
        except registry.Retired as error:
            raise ports.CannotExecute("retired", str(error)) from error
        except ownership.BadOwners as error:
            raise ports.CannotExecute("not_fit", f"{error} Ask again.") from error
        run.reached("agent:owner_changed")
        done = owner_plan.outcome(agent, owner=self._owner(), backup=self._backup())
        return Outcome(done, {"Agent": agent.name})

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return the agent's page."""
        del request_id
        return reverse("agent", args=[self._agent().name])

    def _holds_of(self, agent: Agent) -> bool:
        return (agent.owner_id, agent.backup_owner_id) == (self.owner_id, self.backup_owner_id)

    def _keys(self) -> list[Key]:
        return about_agents.keys_of(self._agent())

    def _teams(self) -> frozenset[str]:
        """Return the teams whose keys the agent reads; its own where it reads none."""
        owning = frozenset(key.team.team.slug for key in self._keys())
        return owning or frozenset({self._agent().team.team.slug})

    def _agent(self) -> Agent:
        return about_agents.agent(self.agent_id)

    def _owner(self) -> User:
        return people.user(self.owner_id)

    def _backup(self) -> User | None:
        return people.user(self.backup_owner_id) if self.backup_owner_id else None


def ask(
    *,
    person: User,
    agent: str,
    owner: UUID,
    backup_owner: UUID | None,
    reason: str,
    now: datetime,
    ticket: str = "",
) -> Request:
    """Ask that other people answer for an agent.

    Raises NotVisible, new_grant.NotGrantable, NothingToChange, ownership.BadOwners,
    about_keys.AlreadyAsked, and what `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        found = access.access_agent(person, agent, AgentPermission.VIEW)
        registry.lock(agent_id=found.pk)
        # Looked at again under the lock: until then another owner may have come.
        found = access.access_agent(person, found.pk, AgentPermission.HAND_OVER)
        new_grant.require_working(found)
        if (found.owner_id, found.backup_owner_id) == (owner, backup_owner):
            raise NothingToChange(f"They answer for {found.name} already.")
        ownership.require_fit(found, owner_id=owner, backup_owner_id=backup_owner)
        about_agents.refuse_second(found, ChangeOwner.kind)
        action = ChangeOwner(agent_id=found.pk, owner_id=owner, backup_owner_id=backup_owner)
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )
