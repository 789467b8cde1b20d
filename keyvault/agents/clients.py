"""The stored ways of an agent to authenticate: client secrets and public keys.

Inner writers: the caller owns the transaction. A secret is shown once, kept as
a keyed digest, and ends within 90 days; two may live at a time, so that the
new one can be rolled out before the old one ends. Of a key pair only the
public half comes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from approvals.ports import Actor, NotVisible
from keyvault.agents import services
from keyvault.agents import tokens as bearer
from keyvault.agents.models import SECRET_DAYS, Agent, AgentState, Client, ClientKind
from keyvault.audit import ledger
from keyvault.crypto import jwt, tokens
from keyvault.crypto.secret import Secret

PREFIX = "kvs"
KEY_DAYS = 365
MOST_LIVE = {ClientKind.SECRET: 2, ClientKind.JWT: 4}
_ID_CHARS = 40


class TooMany(Exception):
    """The agent has as many live secrets or keys as it may; the message says the mend."""


class BadLifetime(ValueError):
    """The days asked for are outside the limits."""


class KeyKnown(Exception):
    """The public key belongs, or belonged, to an agent: one key pair is one agent's."""


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A new client secret: its text, which is shown once, and its row."""

    text: Secret
    client: Client


def add_secret(
    *, agent_id: UUID, actor: Actor, now: datetime, days: int = SECRET_DAYS
) -> NewSecret:
    """Make a client secret for an agent.

    days: 1 to 90. Raises NotVisible, services.Retired, TooMany, BadLifetime.
    """
    agent = _locked(agent_id, ClientKind.SECRET, now=now)
    made = tokens.issue(PREFIX)
    client = Client(
        agent=agent,
        kind=ClientKind.SECRET,
        public_id=made.public_id,
        digest=made.stored,
        created_at=now,
        created_by=actor.label[:200],
        expires_at=_end(days, now, most=SECRET_DAYS),
    )
    client.save(force_insert=True)
    _record_added(client, actor=actor, now=now, algorithm=None)
    return NewSecret(made.text, client)


def add_key(
    *,
    agent_id: UUID,
    public_jwk: Mapping[str, object],
    actor: Actor,
    now: datetime,
    days: int = KEY_DAYS,
) -> Client:
    """Register the public half of an agent's own key pair, for private_key_jwt (RFC 7523).

    `public_jwk` is a JWK: Ed25519, P-256 or RSA of at least 2048 bits. days: 1 to 365.
    Raises jwt.BadJwk, NotVisible, services.Retired, TooMany, BadLifetime, KeyKnown.
    """
    key = jwt.PublicKey.of(public_jwk)
    agent = _locked(agent_id, ClientKind.JWT, now=now)
    client = Client(
        agent=agent,
        kind=ClientKind.JWT,
        public_id=key.thumbprint[:_ID_CHARS],
        jwk=dict(key.material),
        created_at=now,
        created_by=actor.label[:200],
        expires_at=_end(days, now, most=KEY_DAYS),
    )
    try:
        # A savepoint: the caller's transaction outlives the refusal.
        with transaction.atomic():
            client.save(force_insert=True)
    except IntegrityError as error:
        raise KeyKnown("This key was registered before. Make a new key pair.") from error
    _record_added(client, actor=actor, now=now, algorithm=key.algorithm)
    return client


def end(*, client_id: UUID, cause: str, actor: Actor, now: datetime) -> Client:
    """End a secret or key, and with it every token that it brought. Twice changes nothing.

    Raises NotVisible.
    """
    client = (
        Client.objects.select_for_update(of=("self",))
        .select_related("agent")
        .filter(pk=client_id)
        .first()
    )
    if client is None:
        raise NotVisible(f"client {client_id}")
    if client.ended_at is not None:
        return client
    client.ended_at = now
    client.save(update_fields=["ended_at"])
    fields = {"client": client.public_id, "kind": client.kind, "cause": cause}
    subject = services.subject(client.agent)
    ledger.record("client.ended", actor=actor, subject=subject, now=now, fields=fields)
    bearer.end(tokens_of=Q(client=client), cause=cause, actor=actor, now=now)
    return client


def live(*, now: datetime) -> QuerySet[Client]:
    """Return the secrets and keys that open something now, whatever their agents' state."""
    return Client.objects.filter(ended_at=None, expires_at__gt=now)


def _locked(agent_id: UUID, kind: ClientKind, *, now: datetime) -> Agent:
    """Return the agent under a lock, so that two racers cannot both add the last one.

    Raises NotVisible, services.Retired, TooMany.
    """
    agent = Agent.objects.select_for_update().filter(pk=agent_id).first()
    if agent is None:
        raise NotVisible(f"agent {agent_id}")
    if agent.state == AgentState.RETIRED:
        raise services.Retired(agent)
    most = MOST_LIVE[kind]
    if live(now=now).filter(agent=agent, kind=kind).count() >= most:
        what = "secrets" if kind == ClientKind.SECRET else "keys"
        raise TooMany(f"{agent.name} has {most} live {what}. End one of them first.")
    return agent


def _end(days: int, now: datetime, *, most: int) -> datetime:
    if not 1 <= days <= most:
        raise BadLifetime(f"Choose 1 to {most} days.")
    return now + timedelta(days=days)


def _record_added(client: Client, *, actor: Actor, now: datetime, algorithm: str | None) -> None:
    fields = {
        "client": client.public_id,
        "kind": client.kind,
        "expires_at": client.expires_at.isoformat(),
        "algorithm": algorithm,
    }
    subject = services.subject(client.agent)
    ledger.record("client.added", actor=actor, subject=subject, now=now, fields=fields)
