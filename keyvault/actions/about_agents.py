"""What the acts on agents share: how one is named to approvers, and whom it concerns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.db.models import QuerySet

from approvals import digests, ports
from approvals import selectors as requests
from approvals.ports import Change, NotVisible, RiskPoint, Subject
from keyvault.accounts import selectors as people
from keyvault.actions import about_keys
from keyvault.agents import access, selectors
from keyvault.agents.models import Agent
from keyvault.invalidation.services import Effect
from keyvault.inventory.models import Grant, Key

JSON = Any

OWNERS = "agent_owner"
NEW_OWNER, NEW_BACKUP = "new_owner", "new_backup_owner"
LONG = timedelta(days=90)
OUTSIDE = "Reads outside text"


def agent(agent_id: UUID) -> Agent:
    """Return an agent without a gate; for actions only. Raises NotVisible."""
    found = access.find(agent_id)
    if found is None:
        raise NotVisible(f"agent {agent_id}")
    return found


def target(found: Agent) -> Subject:
    """Return the agent as the target of a plan."""
    return Subject("agent", str(found.pk), found.name)


def owners(agents: Iterable[Agent]) -> frozenset[UUID]:
    """Return who answers for agents: owners and backup owners."""
    found = {person for row in agents for person in (row.owner_id, row.backup_owner_id)}
    return frozenset(person for person in found if person is not None)


def may_look(person_id: UUID, found: Agent) -> bool:
    """Say whether a person may see an agent, and therefore what was asked about it."""
    try:
        person = people.user(person_id)
    except NotVisible:
        return False
    return access.AgentPermission.VIEW in access.permissions(person, found)


def named(found: Agent) -> str:
    """Return an agent as plans name it."""
    return f"{found.name} ({found.title}) of {found.owner}, {found.team.team}"


def input_row(agents: Iterable[Agent]) -> Change:
    """Return the row of a plan that says whether outsiders can steer the agents."""
    steered = sorted(row.name for row in agents if row.reads_outside_text)
    return Change("Outside text", "", ", ".join(steered) or "no", OUTSIDE if steered else "")


def risk(agents: Iterable[Agent], *, length: timedelta | None = None) -> list[RiskPoint]:
    """Return the points that hang on who gets a right, and for how long."""
    rows, points = list(agents), []
    if steered := sorted(row.name for row in rows if row.reads_outside_text):
        text = f"What {', '.join(steered)} reads may try to steer it."
        points.append(RiskPoint(25, OUTSIDE, text))
    if alone := sorted(row.name for row in rows if not _has_backup(row)):
        text = f"Nobody active stands in for the owner of {', '.join(alone)}."
        points.append(RiskPoint(10, "No living backup owner", text))
    if length is not None and length > LONG:
        points.append(RiskPoint(10, "Long access", f"{length.days} days are asked for."))
    if len(rows) > 1:
        points.append(RiskPoint(10, "More than one agent", f"{len(rows)} agents are reached."))
    return points


def attributes(keys: Iterable[Key]) -> dict[str, frozenset[str]]:
    """Return what policies match on for all of some keys: the strictest of them governs."""
    found: dict[str, frozenset[str]] = {"protected": frozenset({"no"})}
    for key in keys:
        for name, values in about_keys.attributes_of(key).items():
            found[name] = found.get(name, frozenset()) | values
    return found


def is_protected(found: Mapping[str, frozenset[str]]) -> bool:
    """Say whether attributes name a protected environment."""
    return "yes" in found["protected"]


def keys_of(found: Agent) -> list[Key]:
    """Return the keys that an agent may use by a right that nobody has ended, by name."""
    return keys_of_all([found])


def keys_of_all(agents: Iterable[Agent]) -> list[Key]:
    """Return the keys that some agents may use by rights that nobody has ended, by name."""
    return _keys(selectors.open_grants_of(agents))


def keys_of_group(group: Group) -> list[Key]:
    """Return the keys that come with a group, also those whose right begins later, by name."""
    return _keys(selectors.open_grants(group))


def refuse_second(found: Agent, kind: str, **payload: JSON) -> None:
    """Raise AlreadyAsked when the same is asked about an agent already."""
    for row in requests.open_for_subject("agent", found.pk, act=kind):
        if all(row.payload.get(name) == value for name, value in payload.items()):
            raise about_keys.AlreadyAsked("This has been asked for already.", row.pk)


def require_as_approved(action: ports.Action, request_id: UUID) -> None:
    """Stop a run that has written nothing yet and would do something else than was approved.

    A run renders its plan when it starts. What came between that and the locks
    that the caller holds by now is seen here. Raises CannotExecute.
    """
    plan = requests.plan_of(request_id)
    if digests.sha256(action.describe().to_json()) != digests.sha256(plan):
        sentence = "What would happen is no longer what was approved. Nothing was done. Ask again."
        raise ports.CannotExecute("changed", sentence)


def day(moment: datetime) -> str:
    """Return a date as plans write it, in UTC."""
    return f"{moment.day} {moment:%b %Y, %H:%M} UTC"


def gateways(effect: Effect) -> dict[str, str]:
    """Return the fact of an outcome that says how far a change has spread."""
    said = effect.sentence.removesuffix(".")
    return {"Gateways": said[0].lower() + said[1:]}


def _keys(rows: QuerySet[Grant]) -> list[Key]:
    found = {row.key_id: row.key for row in rows.select_related(*_OF_KEY)}
    return sorted(found.values(), key=lambda key: key.name)


_OF_KEY = ("key__environment", "key__connection__environment", "key__team__team")


def _has_backup(row: Agent) -> bool:
    return row.backup_owner is not None and row.backup_owner.is_active
