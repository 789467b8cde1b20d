"""Say which agent a proof belongs to: a client secret, or an assertion signed by its own key.

Nothing here tells a caller why a proof was refused. The reasons are fixed
phrases for the ledger, where the owner of an agent can read them. Unknown,
wrong, ended and suspended cost the same work (R29, R30).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from keyvault.agents import clients
from keyvault.agents.models import AgentState, Client, ClientKind, UsedAssertion
from keyvault.crypto import digest, jwt, tokens

ASSERTION_MOST_S = 300
JTI_MOST_CHARS = 300
_NOBODY = "0" * 64


class Refused(Exception):
    """A proof opens nothing. What it holds is for the ledger, not for the caller.

    `reason` is a fixed phrase of ours, `agent` the name of the agent that the
    proof belongs to, or "" where it belongs to none.
    """

    def __init__(self, reason: str, *, agent: str = "") -> None:
        super().__init__(reason)
        self.reason, self.agent = reason, agent


@dataclass(frozen=True, slots=True)
class Assertion:
    """A verified assertion, still to be spent: accepted once, until `expires_at`."""

    client: Client
    jti: str
    expires_at: datetime


def by_secret(*, client_id: str, secret: str, now: datetime) -> Client:
    """Return the client whose secret this is. Raises Refused.

    `client_id` is the name of the agent or its id.
    """
    try:
        public_id = tokens.public_id(secret, clients.PREFIX)
    except tokens.Malformed:
        public_id = ""
    client = (
        Client.objects.select_related("agent")
        .filter(public_id=public_id, kind=ClientKind.SECRET)
        .first()
    )
    is_right = tokens.matches(secret, client.digest if client else _NOBODY)
    if client is None or not is_right or not _is_called(client, client_id):
        raise Refused("wrong secret")
    _check_in_force(client, now=now)
    return client


def by_assertion(*, text: str, client_id: str, audience: str, now: datetime) -> Assertion:
    """Return what an assertion proves (RFC 7523 section 3), before it is spent. Raises Refused.

    `client_id` is what else the request said, "" for nothing: it must agree.
    Issuer and subject are the client id, the audience is exactly the address
    of the token endpoint, and the assertion lives at most five minutes.
    """
    try:
        token = jwt.parse(text)
        name = token.text("iss")
        client = _signer(token, name)
        if token.text("sub") != name or client_id not in {"", name}:
            raise Refused("assertion: issuer and subject")
        if not token.is_for(audience):
            raise Refused("assertion: audience")
        expires_at = jwt.check_times(token, now=now, most_s=ASSERTION_MOST_S)
    except jwt.BadJwt as error:
        raise Refused(f"assertion: {error.reason}") from None
    jti = token.text("jti")
    if not 0 < len(jti) <= JTI_MOST_CHARS:
        raise Refused("assertion: jti")
    _check_in_force(client, now=now)
    return Assertion(client, jti, expires_at)


def spend(assertion: Assertion) -> None:
    """Note that an assertion was used, in the transaction of what it brings. Raises Refused.

    The unique row decides between racers: all but one find it taken.
    """
    try:
        with transaction.atomic():
            UsedAssertion.objects.create(
                issuer=str(assertion.client.agent_id),
                jti_digest=digest.keyed("assertion id v1", assertion.jti),
                expires_at=assertion.expires_at,
            )
    except IntegrityError:
        name = assertion.client.agent.name
        raise Refused("assertion: used before", agent=name) from None


def _signer(token: jwt.Token, name: str) -> Client:
    """Return the client whose key signed the token. Raises Refused.

    At least one signature is checked whoever is named, so that time does not
    tell an agent that exists from one that does not.
    """
    if token.algorithm not in jwt.ALGORITHMS:
        raise Refused("assertion: algorithm")
    found = Client.objects.select_related("agent").filter(_called(name), kind=ClientKind.JWT)
    tried = 0
    for client in found.order_by("-created_at"):
        key = jwt.PublicKey.of(client.jwk)
        if token.algorithm in key.names:
            tried += 1
            if _has_signed(key, token):
                return client
    if not tried:
        _has_signed(jwt.decoy(token.algorithm), token)
    raise Refused("assertion: signature")


def _has_signed(key: jwt.PublicKey, token: jwt.Token) -> bool:
    try:
        key.verify(token)
    except jwt.BadJwt:
        return False
    return True


def _called(name: str) -> Q:
    """Return the condition for the agent whose name or id this is."""
    try:
        return Q(agent__name=name) | Q(agent_id=UUID(name))
    except ValueError:
        return Q(agent__name=name)


def _is_called(client: Client, name: str) -> bool:
    return name in {client.agent.name, str(client.agent_id)}


def _check_in_force(client: Client, *, now: datetime) -> None:
    """Raise Refused unless client and agent are in force; `tokens.issue` asks again under locks."""
    if client.ended_at is not None or client.expires_at <= now:
        raise Refused("ended client", agent=client.agent.name)
    if client.agent.state != AgentState.ACTIVE:
        raise Refused("suspended agent", agent=client.agent.name)
