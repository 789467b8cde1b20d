"""Let an agent join a team, so that what the team's agents may use reaches it: asked, shown, done.

Leaving takes rights away, and is done at once (`keyvault.agents.endings`).
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
from approvals.ports import Change, Outcome, Plan, RiskPoint, Run
from keyvault.accounts import selectors as people
from keyvault.accounts.models import Team, User
from keyvault.actions import about_agents, about_keys, new_grant
from keyvault.agents import access, memberships
from keyvault.agents import selectors as agents
from keyvault.agents import services as registry
from keyvault.agents.access import AgentPermission
from keyvault.agents.models import Agent
from keyvault.invalidation import services as invalidation
from keyvault.inventory.models import Key

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any


class MemberAlready(ValueError):
    """The agent belongs to the team already."""


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class JoinAgent:
    """Put one agent into one team."""

    kind: ClassVar[str] = "agent.join"
    title: ClassVar[str] = "Let an agent join a team"

    agent_id: UUID
    team: str

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {"agent_id": str(self.agent_id), "team": self.team}

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"agent_id", "team"}:
            raise ValueError("The stored action has other fields than a membership of an agent.")
        return cls(agent_id=UUID(payload["agent_id"]), team=str(payload["team"]))

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return the team, and what policies match on for every key that comes with it."""
        return about_agents.attributes(self._keys()) | {"group": frozenset({self.team})}

    def people(self, role: str) -> frozenset[UUID]:
        """Return who answers for the agent, or the live members of the team."""
        if role == about_agents.OWNERS:
            return about_agents.owners([self._agent()])
        return about_keys.members(self.team) if role == "owner_team" else frozenset()

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see the agent, and the team, see what is asked."""
        is_member = person_id in about_keys.members(self.team)
        return is_member or about_agents.may_look(person_id, self._agent())

    def describe(self) -> Plan:
        """Return which agent joins whom, and which keys come with it now."""
        agent, team = self._agent(), self._team()
        keys = tuple(f"{key.name} ({key.environment.slug})" for key in self._keys())
        return Plan(
            title=f"{agent.name} joins {team}",
            sentence=(
                f"The agent {about_agents.named(agent)} joins the agents of {team} and may use "
                f"whatever they may use, now and later."
            ),
            target=about_agents.target(agent),
            fingerprint=digests.act_digest(kind="agent", id=agent.pk),
            changes=(
                Change(f"Agents of {team}", "Not a member", "Member"),
                Change("Keys that come with it", "", keys or about_keys.NONE),
                about_agents.input_row([agent]),
            ),
            body=self.to_payload(),
            breaks=("Nothing stops working.",),
            undo=f"Whoever answers for {agent.name} takes it out of the team at once.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes it risky to hand this agent what the team may use."""
        keys = self._keys()
        points = [
            RiskPoint(15, "Later rights come too", "What the team is granted reaches this agent.")
        ]
        points += about_agents.risk([self._agent()])
        if guarded := sorted(key.name for key in keys if key.environment.protected):
            points.append(RiskPoint(25, "Protected environment", ", ".join(guarded)))
        if len(keys) > 1:
            points.append(RiskPoint(10, "More than one key", f"{len(keys)} keys come with it."))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Let it join. A second try finds it there already."""
        try:
            with transaction.atomic(durable=True):
                run.fence()
                memberships.join(
                    agent_id=self.agent_id,
                    group=self._team().group,
                    request_id=request_id,
                    actor=about_keys.WORKER,
                    now=run.now,
                )
                xact = invalidation.transaction_id()
        except registry.Retired as error:
            raise ports.CannotExecute("retired", str(error)) from error
        run.reached("agent:joined")
        effect = about_agents.gateways(invalidation.wait(xact))
        return Outcome(f"{self._agent().name} joined {self._team()}.", effect)

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return the agent's page."""
        del request_id
        return reverse("agent", args=[self._agent().name])

    def _keys(self) -> list[Key]:
        return about_agents.keys_of_group(self._team().group)

    def _agent(self) -> Agent:
        return about_agents.agent(self.agent_id)

    def _team(self) -> Team:
        return people.team_by_slug(self.team)


def ask(
    *, person: User, agent: str, team: str, reason: str, now: datetime, ticket: str = ""
) -> Request:
    """Ask that an agent joins a team.

    Raises NotVisible, new_grant.NotGrantable, MemberAlready,
    about_keys.AlreadyAsked, and what `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        found = access.access_agent(person, agent, AgentPermission.MANAGE)
        registry.lock(agent_id=found.pk)
        new_grant.require_working(found)
        joins = people.team_by_slug(team)
        if joins.kind != Team.Kind.TEAM:
            raise ports.NotVisible(f"team {team}")
        if agents.groups_of(found).filter(group=joins.group).exists():
            raise MemberAlready(f"{found.name} belongs to {joins} already.")
        action = JoinAgent(agent_id=found.pk, team=team)
        about_agents.refuse_second(found, action.kind, team=team)
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )
