"""Let a job that a trusted issuer vouches for be an agent: asked, shown and done.

It is a way to authenticate like a secret, and stronger: nothing of it is kept
by the agent. So only the agent's owners ask (R34), and others approve.
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
from keyvault.accounts.models import User
from keyvault.actions import about_agents, about_keys, new_grant
from keyvault.agents import access, bindings, trusted, trusts
from keyvault.agents import services as registry
from keyvault.agents.access import AgentPermission
from keyvault.agents.models import Agent, Trust
from keyvault.inventory.models import Key

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class BindAgent:
    """Bind the claims of one issuer's tokens to one agent."""

    kind: ClassVar[str] = "trust.bind"
    title: ClassVar[str] = "Let a job be an agent"

    agent_id: UUID
    trust: str
    claims: Mapping[str, JSON]

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {
            "agent_id": str(self.agent_id),
            "trust": self.trust,
            "claims": dict(self.claims),
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"agent_id", "trust", "claims"}:
            raise ValueError("The stored action has other fields than a binding.")
        return cls(
            agent_id=UUID(payload["agent_id"]),
            trust=str(payload["trust"]),
            claims=dict(payload["claims"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return the issuer's kind, and what policies match on for every key of the agent."""
        return about_agents.attributes(self._keys()) | {
            "trust_kind": frozenset({self._trust().kind})
        }

    def people(self, role: str) -> frozenset[UUID]:
        """Return who answers for the agent, or the live members of its team."""
        agent = self._agent()
        if role == about_agents.OWNERS:
            return about_agents.owners([agent])
        return about_keys.members(agent.team.team.slug) if role == "owner_team" else frozenset()

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see the agent see what is asked about it."""
        return about_agents.may_look(person_id, self._agent())

    def describe(self) -> Plan:
        """Return which jobs will be this agent, and which keys they can read then."""
        agent, trust = self._agent(), self._trust()
        keys = tuple(f"{key.name} ({key.environment.slug})" for key in self._keys())
        return Plan(
            title=f"Let a job be {agent.name}",
            sentence=(
                f"Whoever holds a token of {trust.issuer} with exactly these claims is the agent "
                f"{about_agents.named(agent)}."
            ),
            target=about_agents.target(agent),
            fingerprint=digests.act_digest(kind="agent", id=agent.pk),
            changes=(
                Change("Issuer", "", f"{trust.title}: {trust.issuer}"),
                Change("Made for", "", trust.audience),
                Change("Claims that must match", "", tuple(lines(self.claims))),
                Change("Keys that it reads then", keys, keys or about_keys.NONE),
                about_agents.input_row([agent]),
            ),
            body=self.to_payload() | {"trust_revision": trust.revision},
            breaks=("Nothing stops working: one more way to prove itself is added.",),
            undo=f"Whoever answers for {agent.name} ends it at once.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes it risky to take this job for the agent."""
        keys = self._keys()
        points = [RiskPoint(15, "Another way in", "Whoever can run this job can be the agent.")]
        points += about_agents.risk([self._agent()])
        if guarded := sorted(key.name for key in keys if key.environment.protected):
            points.append(RiskPoint(25, "Protected environment", ", ".join(guarded)))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Bind them. A second try finds them bound."""
        agent = self._agent()
        with transaction.atomic(durable=True):
            run.fence()
            if not agent.bindings.filter(request_id=request_id).exists():
                self._bind(request_id=request_id, now=run.now)
        run.reached("agent:bound")
        return Outcome(f"Jobs with these claims are {agent.name} now.", {"Agent": agent.name})

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return how the agent authenticates."""
        del request_id
        return reverse("agent-authentication", args=[self._agent().name])

    def _bind(self, *, request_id: UUID, now: datetime) -> None:
        try:
            # Under this lock the terms stay what the plan says of them.
            trust = trusts.locked(self._trust().pk)
            about_agents.require_as_approved(self, request_id)
            bindings.create(
                trust_id=trust.pk,
                agent_id=self.agent_id,
                claims=self.claims,
                request_id=request_id,
                actor=about_keys.WORKER,
                now=now,
            )
        except (bindings.BadClaims, registry.Retired, ports.NotVisible) as error:
            raise ports.CannotExecute("not_bindable", str(error)) from error

    def _keys(self) -> list[Key]:
        return about_agents.keys_of(self._agent())

    def _agent(self) -> Agent:
        return about_agents.agent(self.agent_id)

    def _trust(self) -> Trust:
        return trusted.trust(self.trust)


def ask(
    *,
    person: User,
    agent: str,
    trust: str,
    claims: Mapping[str, JSON],
    reason: str,
    now: datetime,
    ticket: str = "",
) -> Request:
    """Ask that jobs with these claims are an agent.

    Raises NotVisible, new_grant.NotGrantable, bindings.BadClaims,
    about_keys.AlreadyAsked, and what `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        found = access.access_agent(person, agent, AgentPermission.EQUIP)
        registry.lock(agent_id=found.pk)
        new_grant.require_working(found)
        issuer = trusted.trust(trust)
        if problems := bindings.problems(claims, issuer):
            raise bindings.BadClaims(problems)
        action = BindAgent(agent_id=found.pk, trust=trust, claims=dict(claims))
        about_agents.refuse_second(found, action.kind, trust=trust, claims=dict(claims))
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )


def lines(claims: Mapping[str, JSON], above: str = "") -> list[str]:
    """Return claims as lines, name and value, those inside others with their whole path."""
    found: list[str] = []
    for name, value in sorted(claims.items()):
        path = f"{above}{name}"
        if isinstance(value, Mapping):
            found += lines(value, f"{path} / ")
        else:
            found.append(f"{path}: {value}")
    return found
