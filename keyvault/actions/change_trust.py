"""Trust an outside issuer, change its terms or end it: asked, shown and done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, services
from approvals import selectors as requests
from approvals.ports import Change, Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts.models import User
from keyvault.actions import about_agents, about_keys, persons, trust_plan
from keyvault.agents import trusted, trusts
from keyvault.agents.models import Trust, TrustKind
from keyvault.agents.terms import Terms
from keyvault.invalidation import services as invalidation
from keyvault.inventory.models import Key

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any
BEGIN, CHANGE, END = "begin", "change", "end"
_VERBS = frozenset({BEGIN, CHANGE, END})
_FIELDS = {"verb", "slug", "title", "terms", "revision"}


class NothingToChange(ValueError):
    """The trust says exactly that already."""


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeTrust:
    """Begin, change or end one trust. revision: the one that was read, 0 for a new trust."""

    kind: ClassVar[str] = "trust.change"
    title: ClassVar[str] = "Change whom we trust to vouch for jobs"

    verb: str
    slug: str
    title_then: str
    terms: Terms
    revision: int

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {
            "verb": self.verb,
            "slug": self.slug,
            "title": self.title_then,
            "terms": {
                "kind": self.terms.kind,
                "issuer": self.terms.issuer,
                "audience": self.terms.audience,
                "jwks_url": self.terms.jwks_url,
                "allowed_hosts": list(self.terms.allowed_hosts),
            },
            "revision": self.revision,
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != _FIELDS or payload["verb"] not in _VERBS:
            raise ValueError("The stored action has other fields than a change of trust.")
        terms = dict(payload["terms"])
        return cls(
            verb=str(payload["verb"]),
            slug=str(payload["slug"]),
            title_then=str(payload["title"]),
            terms=Terms(**terms | {"allowed_hosts": tuple(terms["allowed_hosts"])}),
            revision=int(payload["revision"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on, also for every key that the trust opens the way to.

        Whoever names the address of the issuer's keys can become each agent that
        comes in by the trust. To end one only takes away, so no key is counted.
        """
        reached = {} if self.verb == END else about_agents.attributes(self._keys())
        return reached | {
            "trust_kind": frozenset({self.terms.kind}),
            "verb": frozenset({self.verb}),
        }

    def people(self, role: str) -> frozenset[UUID]:
        """Return who answers for the agents that the trust lets in, or who owns their keys."""
        if role == about_agents.OWNERS:
            return about_agents.owners(trusted.trusting(self.slug))
        return frozenset(key.owner_id for key in self._keys()) if role == "owner" else frozenset()

    def visible_to(self, person_id: UUID) -> bool:
        """Let administrators and auditors see it, and whoever answers for an agent it lets in."""
        return person_id in self.people(about_agents.OWNERS) or about_keys.role_may_look(person_id)

    def describe(self) -> Plan:
        """Return whose tokens we will exchange, on which terms, and for which agents."""
        before, names = self._row(), self._agents()
        # Only a change reaches further than its own terms: nothing is bound to a new trust.
        judged = self.attributes() if self.verb == CHANGE else {}
        word = {BEGIN: "Trust", CHANGE: "Change the trust in", END: "End the trust in"}[self.verb]
        return Plan(
            title=f"{word} {self.title_then}",
            sentence=_SENTENCES[self.verb].format(
                issuer=self.terms.issuer, audience=self.terms.audience
            ),
            target=Subject("trust", self.slug, self.slug),
            fingerprint=digests.act_digest(kind="trust", slug=self.slug),
            changes=(
                *trust_plan.changes(
                    before,
                    title=self.title_then,
                    terms=self.terms if self.verb != END else None,
                ),
                Change("Agents that it lets in", names, names if self.verb != END else ()),
                *trust_plan.reached(judged),
            ),
            body=self.to_payload() | trust_plan.body(judged),
            breaks=self._breaks(names),
            undo=_UNDO[self.verb],
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes it risky to believe this issuer."""
        if self.verb == END:
            return [RiskPoint(10, "Jobs may stop", f"{len(self._agents())} agents are let in.")]
        points = [
            RiskPoint(25, "Others say who an agent is", "Whoever holds the issuer's key, is any.")
        ]
        if self.terms.kind == TrustKind.OIDC:
            text = "Its claims are not known to us, so fewer of them are demanded."
            points.append(RiskPoint(15, "An issuer of no known kind", text))
        if self.terms.allowed_hosts:
            text = ", ".join(self.terms.allowed_hosts)
            points.append(RiskPoint(15, "Private addresses are reached", text))
        judged = self.attributes()
        if about_agents.is_protected(judged):
            text = f"Its agents read keys of {', '.join(sorted(judged['environment']))}."
            points.append(RiskPoint(25, "Protected environment", text))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Do it. A second try finds it done."""
        with transaction.atomic(durable=True):
            run.fence()
            if not self._is_done(request_id):
                self._do(request_id=request_id, now=run.now)
            xact = invalidation.transaction_id()
        run.reached("trust:changed")
        effect = about_agents.gateways(invalidation.wait(xact))
        return Outcome(_DONE[self.verb].format(title=self.title_then), effect)

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return the list of trusted issuers."""
        del request_id
        return reverse("trusts")

    def _do(self, *, request_id: UUID, now: datetime) -> None:
        given: dict[str, Any] = {"actor": about_keys.WORKER, "now": now}
        said: dict[str, Any] = {"title": self.title_then, "terms": self.terms}
        try:
            if self.verb == BEGIN:
                trusts.create(slug=self.slug, request_id=request_id, **said, **given)
                return
            trust_id = trusted.trust(self.slug).pk
            if self.verb == CHANGE:
                # No binding is added from here on: that takes the lock of the trust, too.
                trusts.locked(trust_id)
                about_agents.require_as_approved(self, request_id)
                said |= {"revision": self.revision, "request_id": request_id}
                trusts.change(trust_id=trust_id, **said, **given)
            else:
                trusts.end(trust_id=trust_id, cause="approved request", **given)
        except (trusts.BadTerms, trusts.Taken, trusts.Changed, ports.NotVisible) as error:
            raise ports.CannotExecute("changed", str(error)) from error

    def _is_done(self, request_id: UUID) -> bool:
        row = self._row()
        if self.verb == END:
            return row is None or row.ended_at is not None
        return trusted.trusted_by(request_id) is not None

    def _row(self) -> Trust | None:
        return trusted.find_trust(self.slug)

    def _keys(self) -> list[Key]:
        return about_agents.keys_of_all(trusted.trusting(self.slug))

    def _agents(self) -> tuple[str, ...]:
        return tuple(agent.name for agent in trusted.trusting(self.slug))

    def _breaks(self, names: Sequence[str]) -> tuple[str, ...]:
        if self.verb == BEGIN:
            return ("Nothing stops working. It lets no agent in before claims are bound to one.",)
        if not names:
            return ("No agent comes in by it now.",)
        return (f"Tokens that came by it end at once: {', '.join(names)}.",)


_SENTENCES = {
    BEGIN: "Exchange tokens of {issuer}, made for {audience}, against short tokens of our own.",
    CHANGE: "Exchange tokens of {issuer} from now on only on these terms, for {audience}.",
    END: "Accept no token of {issuer} for {audience} any more.",
}
_UNDO = {
    BEGIN: "Ask to end the trust.",
    CHANGE: "Ask to change it back.",
    END: "Ask to trust it anew, and to bind the claims of each agent again.",
}
_DONE = {
    BEGIN: "{title} is trusted.",
    CHANGE: "The trust in {title} is changed.",
    END: "The trust in {title} is ended.",
}


def ask(
    *,
    person: User,
    verb: str,
    slug: str,
    reason: str,
    now: datetime,
    title: str = "",
    terms: Terms | None = None,
    ticket: str = "",
) -> Request:
    """Ask to begin a trust, or to change or end the one named `slug`.

    slug: its name for ever. Raises gates.MissingRight, NotVisible, trusts.BadTerms, trusts.Taken,
    NothingToChange, about_keys.AlreadyAsked, and what
    `approvals.services.submit` raises.
    """
    persons.require_asker(person)
    with transaction.atomic(durable=True):
        action = plan(verb=verb, slug=slug, title=title, terms=terms)
        _refuse_second(action)
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )


def plan(*, verb: str, slug: str, title: str = "", terms: Terms | None = None) -> ChangeTrust:
    """Return the action as it would be asked now. Raises what `ask` raises about the terms."""
    if verb == BEGIN:
        begun = _begun(slug, title, terms)
        _check(begun.terms)
        return begun
    row = trusted.trust(slug)
    action = ChangeTrust(
        verb=verb,
        slug=row.slug,
        title_then=row.title,
        terms=trusts.terms(row),
        revision=row.revision,
    )
    if verb == END:
        return action
    wanted = replace(action, title_then=title or row.title, terms=terms or action.terms)
    if wanted == action:
        raise NothingToChange(f"That is what the trust in {row.title} says already.")
    _check(wanted.terms)
    return wanted


def _begun(slug: str, title: str, terms: Terms | None) -> ChangeTrust:
    if terms is None:
        raise trusts.BadTerms(["Say whom to trust, and for which audience."])
    if trusted.is_trust_taken(slug, terms.issuer, terms.audience):
        raise trusts.Taken("Another trust has this name, or the same issuer and audience.")
    title_then = title or slug
    return ChangeTrust(verb=BEGIN, slug=slug, title_then=title_then, terms=terms, revision=0)


def _check(terms: Terms) -> None:
    if problems := terms.problems():
        raise trusts.BadTerms(problems)


def _refuse_second(action: ChangeTrust) -> None:
    open_rows = requests.open_with(action.kind, slug=action.slug)
    if open_rows:
        raise about_keys.AlreadyAsked("A change of it has been asked already.", open_rows[0].pk)
