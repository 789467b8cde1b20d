"""Let an agent, or a team's agents, use a key until a day: asked, shown and done."""

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
from keyvault.actions import about_agents, about_keys, askers, new_grant
from keyvault.agents import selectors as agents
from keyvault.agents import services as registry
from keyvault.agents.models import Agent
from keyvault.connections import minting
from keyvault.invalidation import services as invalidation
from keyvault.inventory import access, grants, selectors
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Grant, Key, KeyPermission
from keyvault.leases import terms

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any
_FIELDS = {"key_id", "agent_id", "team", "asked_at", "ends_at"}


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class GrantAccess:
    """Give the right to use one key to one agent, or to every agent of one team.

    asked_at: what the length of the access is measured from.
    """

    kind: ClassVar[str] = "grant.give"
    title: ClassVar[str] = "Let an agent use a key"

    key_id: UUID
    asked_at: datetime
    ends_at: datetime
    agent_id: UUID | None = None
    team: str = ""

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {
            "key_id": str(self.key_id),
            "agent_id": str(self.agent_id) if self.agent_id else None,
            "team": self.team,
            "asked_at": self.asked_at.isoformat(),
            "ends_at": self.ends_at.isoformat(),
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != _FIELDS or bool(payload["agent_id"]) == bool(payload["team"]):
            raise ValueError("The stored action has other fields than a grant.")
        return cls(
            key_id=UUID(payload["key_id"]),
            agent_id=UUID(payload["agent_id"]) if payload["agent_id"] else None,
            team=str(payload["team"]),
            asked_at=datetime.fromisoformat(payload["asked_at"]),
            ends_at=datetime.fromisoformat(payload["ends_at"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: the key's attributes, and who gets the right."""
        steered = any(row.reads_outside_text for row in self._agents())
        return about_keys.attributes_of(self._key()) | {
            "holder": frozenset({"agent" if self.agent_id else "team"}),
            "outside_text": frozenset({"yes" if steered else "no"}),
        }

    def people(self, role: str) -> frozenset[UUID]:
        """Return the key's owner, its team, or who answers for the agents."""
        key = self._key()
        if role == about_agents.OWNERS:
            return about_agents.owners(self._agents())
        return about_keys.people_of(key, role)

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see the key or the agent see what is asked about them."""
        if about_keys.key_may_look(person_id, self.key_id):
            return True
        if self.agent_id is None:
            return person_id in about_keys.members(self.team)
        return about_agents.may_look(person_id, about_agents.agent(self.agent_id))

    def describe(self) -> Plan:
        """Return who will read which key by API, until when, and what can steer them."""
        key, reached, held = self._key(), self._agents(), self._held()
        environment, warning = about_keys.environment_line(key.environment)
        names = tuple(about_agents.named(row) for row in reached)
        return Plan(
            title=f"Let {self._holder()} use {key.name}",
            sentence=(
                f"Let {self._holder()} {_act(key)} {key.name} ({key.title}, {environment}) "
                f"by API until {about_agents.day(self.ends_at)}."
            ),
            target=Subject("key", str(key.pk), key.name),
            fingerprint=digests.act_digest(kind="key", id=key.pk),
            changes=(
                Change("Who", "", self._holder()),
                Change("Agents reached now", "", names or about_keys.NONE),
                about_agents.input_row(reached),
                Change("Key", key.name, f"{key.name} of {key.owner}, {key.team.team}"),
                Change("Environment", environment, environment, warning),
                Change("Right", "", _right(key)),
                Change("Until", _until(held), about_agents.day(self.ends_at)),
            ),
            body=self.to_payload() | {"protected": key.environment.protected},
            breaks=self._breaks(),
            undo="The key's owner or whoever answers for the agent ends it at once.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes handing this key to these agents risky."""
        key = self._key()
        points = [RiskPoint(10, "Another reader", "Whoever reads a key can keep its value.")]
        points += about_agents.risk(self._agents(), length=self.ends_at - self.asked_at)
        if key.environment.protected:
            text = f"{key.environment.slug} is marked protected."
            points.append(RiskPoint(25, "Protected environment", text))
        if not key.allowed_hosts:
            text = "No allowed host is named, so no use looks wrong."
            points.append(RiskPoint(15, "Any host", text))
        if self.agent_id is None:
            text = "Agents that join the team later get the right as well."
            points.append(RiskPoint(15, "A whole team", text))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Give the right. A second try finds it given; an open one with another end is replaced."""
        with transaction.atomic(durable=True):
            run.fence()
            # Agent, key, grant: in this order everywhere. A grant that is written locks its agent.
            agent = registry.lock(agent_id=self.agent_id) if self.agent_id else None
            key = inventory.lock(key_id=self.key_id)
            if not Grant.objects.filter(key=key, request_id=request_id).exists():
                self._check(key, agent, now=run.now)
                self._give(key, agent, request_id=request_id, now=run.now)
            xact = invalidation.transaction_id()
        run.reached("grant:given")
        facts = {"Key": key.name, "Until": about_agents.day(self.ends_at)}
        effect = about_agents.gateways(invalidation.wait(xact))
        return Outcome(f"{self._holder()} may use {key.name}.", facts | effect)

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return who may do what with the key."""
        del request_id
        return reverse("key-access", args=[self._key().name])

    def _give(self, key: Key, agent: Agent | None, *, request_id: UUID, now: datetime) -> None:
        worker = about_keys.WORKER
        if held := self._held():
            grants.end_grant(grant=held, actor=worker, now=now, request_id=request_id)
        grants.grant(
            key=key,
            holder=agent or people.team_by_slug(self.team).group,
            permission=KeyPermission.USE,
            reason="approved request",
            actor=worker,
            now=now,
            ends_at=self.ends_at,
            request_id=request_id,
        )

    def _check(self, key: Key, agent: Agent | None, *, now: datetime) -> None:
        """Raise CannotExecute where the locked rows have moved since the approval."""
        try:
            new_grant.require_usable(key)
            if agent is not None:
                new_grant.require_working(agent)
        except new_grant.NotGrantable as error:
            raise ports.CannotExecute("not_grantable", str(error)) from error
        if self.ends_at <= now:
            raise ports.CannotExecute("too_late", "The access would have ended by now. Ask again.")

    def _held(self) -> Grant | None:
        """Return the open grant that this one would replace."""
        held = Grant.objects.filter(key=self.key_id, permission=KeyPermission.USE, ended_at=None)
        if self.agent_id:
            held = held.filter(agent=self.agent_id)
        else:
            held = held.filter(group__team__slug=self.team)
        return held.select_related("key", "agent", "group").first()

    def _holder(self) -> str:
        agent = self._agent()
        return agent.name if agent else f"the agents of {people.team_by_slug(self.team)}"

    def _breaks(self) -> tuple[str, ...]:
        return (
            "Nothing stops working: one more reader is added.",
            "Whoever can add a way for the agent to authenticate can read the value through it.",
        )

    def _agent(self) -> Agent | None:
        return about_agents.agent(self.agent_id) if self.agent_id else None

    def _agents(self) -> list[Agent]:
        if agent := self._agent():
            return [agent]
        group = people.team_by_slug(self.team).group
        return list(agents.of_group(group.pk).select_related("owner", "backup_owner", "team__team"))

    def _key(self) -> Key:
        key = selectors.by_id(self.key_id)
        if key is None:
            raise ports.NotVisible(f"key {self.key_id}")
        return key


def ask(
    *,
    person: User,
    key: str,
    days: int,
    reason: str,
    now: datetime,
    agent: str = "",
    team: str = "",
    ticket: str = "",
    agent_id: UUID | None = None,
) -> Request:
    """Ask that an agent, or every agent of a team, may use a key for some days.

    agent_id: the person's agent that asks for it. Raises NotVisible,
    new_grant.NotGrantable, about_keys.AlreadyAsked, and what `askers.admit` and
    `approvals.services.submit` raise.
    """
    with transaction.atomic(durable=True):
        asked_by = askers.admit(agent_id)
        action = plan(person=person, key=key, agent=agent, team=team, days=days, now=now)
        inventory.lock(key_id=action.key_id)
        _refuse_second(action)
        return services.submit(
            action=action,
            requester=person,
            reason=reason,
            ticket=ticket,
            now=now,
            asked_by=asked_by,
        )


def plan(
    *, person: User, key: str, days: int, now: datetime, agent: str = "", team: str = ""
) -> GrantAccess:
    """Return the action as it would be asked now. Raises NotVisible, new_grant.NotGrantable.

    The asker sees key and holder, and answers for one of the two.
    """
    found = access.access_key(person, key, KeyPermission.VIEW)
    holder: dict[str, Any]
    if agent:
        holder = {"agent_id": new_grant.reader(agent, person=person, key=found).pk}
    else:
        holder = {"team": new_grant.team(team, person=person, key=found).slug}
    new_grant.require_usable(found)
    new_grant.require_length(found, days)
    ends_at = now + timedelta(days=days)
    return GrantAccess(key_id=found.pk, asked_at=now, ends_at=ends_at, **holder)


def _refuse_second(action: GrantAccess) -> None:
    wanted = action.to_payload()
    for row in requests.open_for_subject("key", action.key_id, act=action.kind):
        same = row.payload.get("agent_id"), row.payload.get("team")
        if same == (wanted["agent_id"], action.team):
            raise about_keys.AlreadyAsked("This access has been asked for already.", row.pk)


def _until(held: Grant | None) -> str:
    return about_agents.day(held.ends_at) if held and held.ends_at else ""


def _act(key: Key) -> str:
    return "take leases of" if minting.mints(key.connection) else "read the value of"


def _right(key: Key) -> str:
    if minting.mints(key.connection):
        return f"take leases, up to {terms.MOST_HELD} at once, each for one run"
    return "read the current value, and each later one"
