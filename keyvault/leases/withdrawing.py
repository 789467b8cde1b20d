"""Withdraw a lease from an agent at once: an act of one person, with a code.

The keeper of a key withdraws each of its leases, and whoever may suspend an agent those that
it holds of keys that they may be told of. It ends this credential only: the agent may take
another while it has the right.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals import digests, ports
from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.agents import access as agents
from keyvault.agents.access import AgentPermission
from keyvault.inventory import access as keys
from keyvault.inventory.models import KeyPermission
from keyvault.leases import endings, selectors
from keyvault.leases.models import Lease, LeaseState


def access_lease(person: User, lease_id: UUID) -> Lease:
    """Return a lease that this person may withdraw. Raises NotVisible: missing and forbidden alike."""
    found = selectors.lease(lease_id)
    if not may_withdraw(person, found):
        raise NotVisible(f"lease {lease_id}")
    return found


def may_withdraw(person: User, row: Lease) -> bool:
    """Say whether a person may withdraw a lease."""
    rights = keys.permissions(person, row.key)
    if KeyPermission.MANAGE in rights:
        return True
    # Whoever may not be told of the key stops the agent, which ends all that it holds.
    is_told = KeyPermission.VIEW in rights or agents.answers_for(person, row.agent)
    return is_told and AgentPermission.SUSPEND in agents.permissions(person, row.agent)


def digest(row: Lease) -> str:
    """Return what a step-up for withdrawing a lease is bound to."""
    return digests.act_digest(kind="lease.withdraw", lease=str(row.pk))


def withdraw(*, person: User, lease_id: UUID, proof_id: UUID, now: datetime) -> Lease:
    """Have a lease ended at its provider, by a job. One that is not open is left as it is.

    Raises NotVisible, NotPresent.
    """
    with transaction.atomic(durable=True):
        row = selectors.lock(access_lease(person, lease_id).pk)
        ports.presence().consume(proof_id, person_id=person.pk, digest=digest(row), now=now)
        if row.state == LeaseState.OPEN:
            actor = people.actor(person)
            cause = f"{actor.label} ended it."
            endings.promise(row, LeaseState.WITHDRAWN, cause=cause, actor=actor, now=now)
    return row
