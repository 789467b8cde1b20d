"""Bindings: which claims of a trusted issuer's token make its bearer an agent.

Inner writers: the caller owns the transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from approvals.ports import Actor, NotVisible
from keyvault.agents import claims as rules
from keyvault.agents import services, tokens
from keyvault.agents.models import Agent, AgentState, Binding, Trust
from keyvault.audit import ledger


class BadClaims(ValueError):
    """The claims do not name one workload for good; `problems` are sentences that say the mend."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


def problems(claims: Mapping[str, Any], trust: Trust) -> list[str]:
    """Return what is wrong with claims under a trust, a sentence each; [] when nothing is."""
    found = rules.lint(claims, trust.kind)
    if claims.get("iss", trust.issuer) != trust.issuer:
        found.append(f"iss must be the issuer of the trust, {trust.issuer}.")
    same = Binding.objects.filter(trust=trust, claims=dict(claims), ended_at=None)
    if not found and same.exists():
        found.append("These claims are bound already. End that binding first.")
    return found


def create(
    *,
    trust_id: UUID,
    agent_id: UUID,
    claims: Mapping[str, Any],
    actor: Actor,
    now: datetime,
    request_id: UUID | None = None,
) -> Binding:
    """Bind claims of a trusted issuer to an agent.

    Raises BadClaims, NotVisible (no such trust in force, no such agent), services.Retired.
    """
    # The trust is locked first, as everywhere, so that it cannot end while this is written.
    trust = Trust.objects.select_for_update().filter(pk=trust_id, ended_at=None).first()
    agent = Agent.objects.select_for_update().filter(pk=agent_id).first()
    if trust is None or agent is None:
        raise NotVisible(f"trust {trust_id} or agent {agent_id}")
    if agent.state == AgentState.RETIRED:
        raise services.Retired(agent)
    found = problems(claims, trust)
    if found:
        raise BadClaims(found)
    binding = Binding.objects.create(
        trust=trust, agent=agent, claims=dict(claims), request_id=request_id, created_at=now
    )
    fields = {"binding": str(binding.pk), "trust": trust.slug, "claims": binding.claims}
    subject = services.subject(agent)
    ledger.record("binding.created", actor=actor, subject=subject, now=now, fields=fields)
    return binding


def end(*, binding_id: UUID, cause: str, actor: Actor, now: datetime) -> Binding:
    """End a binding and every token that it brought. Twice changes nothing. Raises NotVisible."""
    binding = (
        Binding.objects.select_for_update(of=("self",))
        .select_related("agent", "trust")
        .filter(pk=binding_id)
        .first()
    )
    if binding is None:
        raise NotVisible(f"binding {binding_id}")
    if binding.ended_at is not None:
        return binding
    binding.ended_at = now
    binding.save(update_fields=["ended_at"])
    fields = {"binding": str(binding.pk), "trust": binding.trust.slug, "cause": cause}
    subject = services.subject(binding.agent)
    ledger.record("binding.ended", actor=actor, subject=subject, now=now, fields=fields)
    tokens.end(tokens_of=Q(binding=binding), cause=cause, actor=actor, now=now)
    return binding
