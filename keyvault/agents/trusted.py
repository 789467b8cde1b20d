"""Read whom we trust to vouch for jobs, and which agents come in by that."""

from __future__ import annotations

from uuid import UUID

from django.db.models import F, Q, QuerySet

from approvals.ports import NotVisible
from keyvault.agents.models import Agent, Binding, Trust, TrustKind


def kinds() -> list[tuple[str, str]]:
    """Return the kinds of issuers, with what pages call them."""
    return [(kind.value, str(kind.label)) for kind in TrustKind]


def trusts() -> QuerySet[Trust]:
    """Return every trust, those in force first."""
    return Trust.objects.order_by(F("ended_at").desc(nulls_first=True), "slug")


def open_trusts() -> QuerySet[Trust]:
    """Return the trusts in force, by name."""
    return Trust.objects.filter(ended_at=None)


def find_trust(slug: str) -> Trust | None:
    """Return a trust whatever its state, or None."""
    return Trust.objects.filter(slug=slug).first()


def trust(slug: str) -> Trust:
    """Return a trust in force. Raises NotVisible."""
    found = open_trusts().filter(slug=slug).first()
    if found is None:
        raise NotVisible(f"trust {slug}")
    return found


def trusted_by(request_id: UUID) -> Trust | None:
    """Return the trust that a request has begun or changed last, or None."""
    return Trust.objects.filter(request_id=request_id).first()


def is_trust_taken(slug: str, issuer: str, audience: str) -> bool:
    """Say whether a name was used for a trust, or one in force has this issuer and audience."""
    same = Q(ended_at=None, issuer=issuer, audience=audience)
    return Trust.objects.filter(Q(slug=slug) | same).exists()


def trusting(slug: str) -> QuerySet[Agent]:
    """Return the agents that a trust lets in now, by name."""
    open_ones = Binding.objects.filter(trust__slug=slug, ended_at=None).values("agent_id")
    return Agent.objects.filter(pk__in=open_ones)
