"""Exchange the token of an outside issuer: who vouches, for whom, and for which of our agents.

The token is verified with keys that an approved trust leads to, never with
one that the token names; then a binding must fit its claims exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from keyvault.agents import claims, issuers
from keyvault.agents.models import Agent, AgentState, Binding, Trust
from keyvault.agents.proofs import Refused
from keyvault.crypto import jwt


@dataclass(frozen=True, slots=True)
class Vouched:
    """A verified token of an issuer: its binding, under the terms that were looked at."""

    binding: Binding
    revision: int
    said_by: str

    @property
    def agent(self) -> Agent:
        """The agent that the bearer is."""
        return self.binding.agent


def vouch(*, text: str, client_id: str, now: datetime) -> Vouched:
    """Return which agent the bearer of an outside token is. Raises proofs.Refused.

    `client_id` is the agent's name or id, demanded only where the token fits
    several agents. May ask the issuer, so it runs outside any transaction.
    """
    try:
        token = jwt.parse(text)
        trust = _trust(token)
        issuers.key_sets.key(trust, token.kid, now=now).verify(token)
        jwt.check_times(token, now=now)
    except jwt.BadJwt as error:
        raise Refused(f"outside token: {error.reason}") from None
    if claims.is_of_stranger(token.claims):
        raise Refused("outside token: pull request")
    binding = _binding(trust, token.claims, client_id)
    if binding.agent.state != AgentState.ACTIVE:
        raise Refused("suspended agent", agent=binding.agent.name)
    return Vouched(binding, trust.revision, token.text("sub"))


def confirm(vouched: Vouched) -> None:
    """Look again, when the binding is locked, whether its trust stands as it did. Raises Refused.

    A change of the trust waits for that lock before it ends the tokens of its
    bindings, so that none given on old terms slips past it.
    """
    stands = Trust.objects.filter(
        pk=vouched.binding.trust_id, revision=vouched.revision, ended_at=None
    )
    if not stands.exists():
        raise Refused("ended meanwhile")


def _trust(token: jwt.Token) -> Trust:
    """Return the trust whose issuer and audience the token states. Raises Refused."""
    of_issuer = list(Trust.objects.filter(issuer=token.text("iss"), ended_at=None))
    if not of_issuer:
        raise Refused("outside token: unknown issuer")
    for trust in of_issuer:
        if token.is_for(trust.audience):
            return trust
    raise Refused("outside token: audience")


def _binding(trust: Trust, found: Mapping[str, Any], client_id: str) -> Binding:
    """Return the one binding that fits. Raises Refused: none does, or those of several agents."""
    bound = Binding.objects.select_related("agent").filter(trust=trust, ended_at=None)
    fitting = [row for row in bound if claims.matches(row.claims, found)]
    if client_id:
        fitting = [row for row in fitting if client_id in {row.agent.name, str(row.agent_id)}]
    if not fitting:
        raise Refused("outside token: claims")
    if len({row.agent_id for row in fitting}) > 1:
        raise Refused("outside token: fits several agents")
    return fitting[0]
