"""Say who uses a key, and take it back. Done at once and recorded: it asks nothing of a provider.

Gate: the permission `rotate` on the key, because a rotation waits for everybody
who is named here. Whom a rotation saw using the key itself comes back with the
next one, so nobody who reads is left behind by an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals import queue
from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.agents import access as agents
from keyvault.agents import selectors as uses
from keyvault.agents.models import Agent
from keyvault.dependents import probes, selectors, services
from keyvault.dependents.models import Dependent, Health
from keyvault.inventory import access
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyPermission, KeyState
from keyvault.rotation import delivering
from keyvault.rotation.services import DELIVER

# By an agent's own reads, its heartbeat or its address; nobody's word stands in for these.
OF_AN_AGENT = (Health.READS, Health.REPORTS, Health.PROBED)
OF_NO_AGENT = (Health.BY_HAND, Health.PROBED)


class NotNameable(Exception):
    """What was given is no dependent of the key. `field` is the part that is wrong, "" for none."""

    def __init__(self, sentence: str, field: str = "") -> None:
        super().__init__(sentence)
        self.field = field


def candidates(person: User, key: Key, *, now: datetime) -> list[Agent]:
    """Return the agents that may use a key now and are no dependents of it, by name.

    Only those that the person may see, so that no form tells of others.
    """
    taken = [row.agent_id for row in selectors.of_key(key.pk) if row.agent_id]
    rows = agents.visible_agents(person).filter(pk__in=uses.users_of(key, now=now))
    return list(rows.exclude(pk__in=taken).order_by("name"))


def register(
    *,
    person: User,
    key: str,
    health: str,
    now: datetime,
    name: str = "",
    agent: str = "",
    wave: int = 0,
    cache_s: int = 0,
) -> Dependent:
    """Register one user of a key; `agent` is an agent's name, "" for a place that people look after.

    An agent may go without a name of its own here. Raises NotVisible, NotNameable.
    """
    with transaction.atomic(durable=True):
        found = access.access_key(person, key, KeyPermission.ROTATE)
        locked = inventory.lock(key_id=found.pk)
        if locked.state != KeyState.LIVE:
            raise NotNameable(f"{locked.name} is {locked.get_state_display().lower()}.")
        _fit(agent, health)
        chosen = _chosen(agent, candidates(person, found, now=now)) if agent else None
        shown = name or (chosen.name if chosen else "")
        if not shown:
            raise NotNameable("Give it a name that people know it by.", "name")
        try:
            return services.register(
                key=locked,
                name=shown,
                health=health,
                agent_id=chosen.pk if chosen else None,
                wave=wave,
                cache_s=cache_s,
                now=now,
                actor=people.actor(person),
            )
        except services.NameTaken as error:
            raise NotNameable(str(error), "name") from error


def end(*, person: User, key: str, dependent_id: UUID, now: datetime) -> Dependent:
    """End a registration, so that the next rotation does not wait for it.

    Raises NotVisible, and NotNameable for a place that keyvault writes to.
    """
    with transaction.atomic(durable=True):
        found = access.access_key(person, key, KeyPermission.ROTATE)
        inventory.lock(key_id=found.pk)
        dependent = selectors.by_id(found.pk, dependent_id)
        if dependent.connection_id is not None:
            raise NotNameable(f"{dependent.name} ends when its removal is approved.")
        services.end(dependent=dependent, now=now, actor=people.actor(person))
        return dependent


def stop_asking(*, person: User, key: str, dependent_id: UUID, now: datetime) -> Dependent:
    """Ask the address of a dependent no more. Raises NotVisible."""
    with transaction.atomic(durable=True):
        found = access.access_key(person, key, KeyPermission.ROTATE)
        inventory.lock(key_id=found.pk)
        row = selectors.by_id(found.pk, dependent_id)
        if not probes.end(dependent=row, actor=people.actor(person), now=now):
            raise NotVisible(f"probe of {dependent_id}")
        return row


def write_again(*, person: User, key: str, dependent_id: UUID, now: datetime) -> Dependent:
    """Have the current version written to an approved place once more. Raises NotVisible."""
    with transaction.atomic(durable=True):
        found = access.access_key(person, key, KeyPermission.ROTATE)
        row = selectors.by_id(found.pk, dependent_id)
        if row.connection_id is None:
            raise NotVisible(f"place {dependent_id}")
        delivering.promise(row.pk)
        queue.wake(kind=DELIVER, subject_id=row.pk, person=person, now=now)
        return row


def _fit(agent: str, health: str) -> None:
    """Raise NotNameable where nobody could ever say that this dependent has a version."""
    if not agent and health not in OF_NO_AGENT:
        raise NotNameable("Only an agent reads or reports by itself. Choose one.", "agent")
    if agent and health not in OF_AN_AGENT:
        raise NotNameable("An agent says by itself which version it has.", "health")


def _chosen(name: str, choices: Sequence[Agent]) -> Agent:
    for one in choices:
        if one.name == name:
            return one
    raise NotNameable("This agent may not use the key, or is a dependent already.", "agent")
