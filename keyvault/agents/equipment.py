"""Give an agent a way to authenticate, or end one: acts of its owners, each with a fresh code.

Whoever has such a way reads every key that the agent may use, so nobody does
this by role (R34).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals import digests, ports
from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.agents import access, bindings, clients
from keyvault.agents.access import AgentPermission
from keyvault.agents.clients import NewSecret
from keyvault.agents.models import SECRET_DAYS, Agent, Binding, Client
from keyvault.crypto import jwt
from keyvault.invalidation import services as invalidation
from keyvault.invalidation.services import Effect

SECRET, KEY, END, UNBIND = "client.secret", "client.key", "client.end", "binding.end"
SECRET_MOST_DAYS, KEY_MOST_DAYS = SECRET_DAYS, clients.KEY_DAYS


class BadKey(ValueError):
    """What was pasted is no public key that we accept; says why and repeats nothing of it."""


def digest(act: str, agent: Agent, **what: object) -> str:
    """Return what a step-up is bound to: the act, the agent and what is added or ended."""
    return digests.act_digest(kind=act, agent=str(agent.pk), **what)


def public_key(text: str) -> dict[str, object]:
    """Return the JWK (RFC 7517) in a pasted text. Raises BadKey, for a private key above all."""
    try:
        pasted = json.loads(text)
        jwt.PublicKey.of(pasted if isinstance(pasted, dict) else {})
    except jwt.BadJwk as error:
        raise BadKey(str(error)) from None
    except (ValueError, RecursionError):
        raise BadKey("Paste one public key as a JWK, a JSON object.") from None
    return dict(pasted)


def add_secret(*, person: User, name: str, days: int, proof_id: UUID, now: datetime) -> NewSecret:
    """Make a client secret, to show once.

    days: 1 to 90. Raises NotVisible, NotPresent, services.Retired,
    clients.TooMany, clients.BadLifetime.
    """
    with transaction.atomic(durable=True):
        agent = access.access_agent(person, name, AgentPermission.EQUIP)
        bound = digest(SECRET, agent, days=days)
        ports.presence().consume(proof_id, person_id=person.pk, digest=bound, now=now)
        actor = people.actor(person)
        return clients.add_secret(agent_id=agent.pk, actor=actor, now=now, days=days)


def add_key(
    *,
    person: User,
    name: str,
    public_jwk: Mapping[str, object],
    days: int,
    proof_id: UUID,
    now: datetime,
) -> Client:
    """Register the public half of an agent's key pair.

    days: 1 to 365. Raises NotVisible, NotPresent, services.Retired, jwt.BadJwk,
    clients.TooMany, clients.BadLifetime, clients.KeyKnown.
    """
    with transaction.atomic(durable=True):
        agent = access.access_agent(person, name, AgentPermission.EQUIP)
        bound = digest(KEY, agent, days=days, jwk=dict(public_jwk))
        ports.presence().consume(proof_id, person_id=person.pk, digest=bound, now=now)
        return clients.add_key(
            agent_id=agent.pk,
            public_jwk=public_jwk,
            actor=people.actor(person),
            now=now,
            days=days,
        )


def client(*, person: User, name: str, client_id: UUID) -> Client:
    """Return a way to authenticate that this person may end. Raises NotVisible.

    To end one takes less than to add one: whoever may suspend the agent may do it.
    """
    agent = access.access_agent(person, name, AgentPermission.SUSPEND)
    found = agent.clients.filter(pk=client_id).first()
    if found is None:
        raise NotVisible(f"client {client_id}")
    found.agent = agent
    return found


def end_client(
    *, person: User, name: str, client_id: UUID, proof_id: UUID, now: datetime
) -> Effect:
    """End a way to authenticate with every token it brought. Raises NotVisible, NotPresent."""
    with transaction.atomic(durable=True):
        found = client(person=person, name=name, client_id=client_id)
        bound = digest(END, found.agent, client=str(found.pk))
        ports.presence().consume(proof_id, person_id=person.pk, digest=bound, now=now)
        actor = people.actor(person)
        clients.end(client_id=found.pk, cause="ended by a person", actor=actor, now=now)
        xact = invalidation.transaction_id()
    return invalidation.wait(xact)


def binding(*, person: User, name: str, binding_id: UUID) -> Binding:
    """Return claims of an agent's that this person may end. Raises NotVisible."""
    agent = access.access_agent(person, name, AgentPermission.SUSPEND)
    found = agent.bindings.select_related("trust").filter(pk=binding_id).first()
    if found is None:
        raise NotVisible(f"binding {binding_id}")
    found.agent = agent
    return found


def end_binding(
    *, person: User, name: str, binding_id: UUID, proof_id: UUID, now: datetime
) -> Effect:
    """End the claims by which jobs are an agent, with every token they brought.

    Raises NotVisible, NotPresent.
    """
    with transaction.atomic(durable=True):
        found = binding(person=person, name=name, binding_id=binding_id)
        bound = digest(UNBIND, found.agent, binding=str(found.pk))
        ports.presence().consume(proof_id, person_id=person.pk, digest=bound, now=now)
        actor = people.actor(person)
        bindings.end(binding_id=found.pk, cause="ended by a person", actor=actor, now=now)
        xact = invalidation.transaction_id()
    return invalidation.wait(xact)
