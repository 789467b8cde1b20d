"""Trust in outside issuers: begun, changed and ended. Inner writers: the caller owns the transaction.

Each change ends the tokens that were given on the old terms. Issuer and kind
of a trust never change: its bindings pin claims of exactly that issuer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from approvals.ports import Actor, NotVisible, Subject
from keyvault.agents import bindings, tokens
from keyvault.agents.models import Binding, Trust
from keyvault.agents.terms import Terms
from keyvault.audit import ledger


class BadTerms(ValueError):
    """The terms cannot be trusted; `problems` are sentences that say the mend."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


class Taken(Exception):
    """Another trust has this name, or the same issuer and audience."""


class Changed(Exception):
    """The trust was changed since its terms were read; look again."""


def subject(trust: Trust) -> Subject:
    """Return the snapshot of a trust that the ledger keeps."""
    return Subject("trust", str(trust.pk), trust.slug)


def terms(trust: Trust) -> Terms:
    """Return the terms of a stored trust."""
    return Terms(
        trust.kind, trust.issuer, trust.audience, trust.jwks_url, tuple(trust.allowed_hosts)
    )


def create(
    *,
    slug: str,
    title: str,
    terms: Terms,
    actor: Actor,
    now: datetime,
    request_id: UUID | None = None,
) -> Trust:
    """Trust an issuer. No agent gains anything until a binding names it.

    Raises BadTerms, Taken.
    """
    _check(terms)
    trust = Trust(
        slug=slug,
        title=title,
        kind=terms.kind,
        issuer=terms.issuer,
        audience=terms.audience,
        jwks_url=terms.jwks_url,
        allowed_hosts=list(terms.allowed_hosts),
        request_id=request_id,
        created_at=now,
        changed_at=now,
    )
    _save(trust, is_new=True)
    _record("trust.created", trust, _facts(trust), actor=actor, now=now)
    return trust


def change(
    *,
    trust_id: UUID,
    revision: int,
    title: str,
    terms: Terms,
    actor: Actor,
    now: datetime,
    request_id: UUID | None = None,
) -> Trust:
    """Put new terms in force, and end every token that was given on the old ones.

    `revision` is the one whose terms were read. Raises BadTerms, Taken,
    NotVisible (unknown or ended), Changed.
    """
    trust = locked(trust_id)
    if trust.revision != revision:
        raise Changed(f"{trust.slug} was changed meanwhile. Look at its terms again.")
    if (terms.kind, terms.issuer) != (trust.kind, trust.issuer):
        raise BadTerms(["Kind and issuer never change. End this trust and begin another one."])
    _check(terms)
    trust.title, trust.audience, trust.jwks_url = title, terms.audience, terms.jwks_url
    trust.allowed_hosts, trust.request_id = list(terms.allowed_hosts), request_id
    trust.revision, trust.changed_at = trust.revision + 1, now
    _save(trust, is_new=False)
    _record("trust.changed", trust, _facts(trust), actor=actor, now=now)
    # Whoever gives a token under one of these holds its lock and looks at the revision again.
    locked_ones = Binding.objects.select_for_update().filter(trust=trust)
    held = list(locked_ones.order_by("created_at", "pk").values_list("pk", flat=True))
    tokens.end(
        tokens_of=Q(binding_id__in=held), cause="the trust was changed", actor=actor, now=now
    )
    return trust


def end(*, trust_id: UUID, cause: str, actor: Actor, now: datetime) -> Trust:
    """End a trust with its bindings and all tokens that they brought. Raises NotVisible."""
    trust = locked(trust_id)
    trust.ended_at = now
    trust.save(update_fields=["ended_at"])
    _record("trust.ended", trust, {"cause": cause}, actor=actor, now=now)
    held = trust.bindings.filter(ended_at=None).order_by("created_at", "pk")
    for binding_id in held.values_list("pk", flat=True):
        bindings.end(binding_id=binding_id, cause=cause, actor=actor, now=now)
    return trust


def locked(trust_id: UUID) -> Trust:
    """Return a trust in force, under a row lock. Raises NotVisible."""
    trust = Trust.objects.select_for_update().filter(pk=trust_id, ended_at=None).first()
    if trust is None:
        raise NotVisible(f"trust {trust_id}")
    return trust


def _check(terms: Terms) -> None:
    problems = terms.problems()
    if problems:
        raise BadTerms(problems)


def _save(trust: Trust, *, is_new: bool) -> None:
    try:
        # A savepoint: the caller's transaction outlives the refusal.
        with transaction.atomic():
            trust.save(force_insert=is_new)
    except IntegrityError as error:
        raise Taken(
            "Another trust has this name, or the same issuer and audience. Change that one."
        ) from error


def _facts(trust: Trust) -> dict[str, object]:
    return {
        "kind": trust.kind,
        "issuer": trust.issuer,
        "audience": trust.audience,
        "jwks_url": trust.jwks_url,
        "allowed_hosts": list(trust.allowed_hosts),
        "revision": trust.revision,
    }


def _record(
    event: str, trust: Trust, fields: Mapping[str, object], *, actor: Actor, now: datetime
) -> None:
    ledger.record(event, actor=actor, subject=subject(trust), now=now, fields=fields)
