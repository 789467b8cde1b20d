"""How a change of trust in an outside issuer reads to those who approve it."""

from __future__ import annotations

from collections.abc import Mapping

from approvals.ports import Change
from keyvault.actions import about_agents, about_keys
from keyvault.agents import trusts
from keyvault.agents.models import Trust, TrustKind
from keyvault.agents.terms import Terms

Attributes = Mapping[str, frozenset[str]]


def changes(before: Trust | None, *, title: str, terms: Terms | None) -> tuple[Change, ...]:
    """Return a row for each term, as it is and as it will be. No `terms`: the trust ends."""
    now = trusts.terms(before) if before else None
    then_title = title if terms else ""
    return (
        Change("Name", before.title if before else "", then_title),
        Change("Kind", _kind(now), _kind(terms)),
        Change("Issuer", now.issuer if now else "", terms.issuer if terms else ""),
        Change("Audience", now.audience if now else "", terms.audience if terms else ""),
        Change("Address of its keys", _keys_of(now), _keys_of(terms)),
        Change("Private addresses it may reach", _hosts(now), _hosts(terms)),
    )


def reached(judged: Attributes) -> tuple[Change, ...]:
    """Return the row that says where the keys are which the agents of a trust read.

    Environments and no names: whoever answers for one of the agents reads the
    plan, and the keys of the others are none of theirs.
    """
    if not judged:
        return ()
    where = tuple(sorted(judged.get("environment", ()))) or about_keys.NONE
    warning = "Protected" if about_agents.is_protected(judged) else ""
    return (Change("Environments of their keys", where, where, warning),)


def body(judged: Attributes) -> dict[str, bool]:
    """Return what a plan is bound to besides its terms: that the same policy governs it."""
    return {"protected": about_agents.is_protected(judged)} if judged else {}


def _kind(terms: Terms | None) -> str:
    return str(TrustKind(terms.kind).label) if terms else ""


def _keys_of(terms: Terms | None) -> str:
    return (terms.jwks_url or "named by the issuer itself") if terms else ""


def _hosts(terms: Terms | None) -> str:
    return (", ".join(terms.allowed_hosts) or about_keys.NONE) if terms else ""
