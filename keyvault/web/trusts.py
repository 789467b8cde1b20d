"""Whom we trust to vouch for jobs: the list, and asking to begin, change or end a trust."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from approvals import services
from approvals.policy.matching import NoPolicy
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as accounts
from keyvault.actions import about_keys, bind_agent, change_trust, new_grant
from keyvault.agents import access, bindings, claims, trusted, trusts
from keyvault.agents.terms import Terms

LIST, FORM = "keyvault/agents/trusts.html", "keyvault/agents/trust_form.html"
BIND = "keyvault/agents/bind.html"
ADMINISTRATORS = "administrators"
UNPROCESSABLE = 422
_CLAIM = "claim_"
_FAULTS = (
    trusts.BadTerms,
    trusts.Taken,
    bindings.BadClaims,
    change_trust.NothingToChange,
    new_grant.NotGrantable,
    NoPolicy,
    services.Denied,
)


class WhyForm(forms.Form):
    """Why something is asked for."""

    reason = forms.CharField(
        max_length=4000, widget=forms.Textarea(attrs={"rows": 3}), help_text="Approvers read this."
    )
    ticket = forms.CharField(required=False, max_length=120)


class TermsForm(WhyForm):
    """The terms of a trust."""

    slug = forms.SlugField(
        label="Short name", max_length=40, help_text="It never changes: github-northwind."
    )
    title = forms.CharField(max_length=80)
    kind = forms.ChoiceField(choices=trusted.kinds)
    issuer = forms.CharField(
        max_length=300, help_text="For example https://token.actions.githubusercontent.com"
    )
    audience = forms.CharField(
        max_length=300,
        help_text="Whom its tokens must be made for: the public address of this installation.",
    )
    jwks_url = forms.CharField(
        required=False,
        max_length=300,
        label="Address of its keys",
        help_text="Empty: the issuer's own discovery document names it.",
    )
    allowed_hosts = forms.CharField(
        required=False,
        max_length=2000,
        label="Private addresses it may reach",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="One a line; needed only for an issuer inside your network.",
    )

    field_order = ("slug", "title", "kind", "issuer", "audience", "jwks_url", "allowed_hosts")

    def terms(self) -> Terms:
        """Return the terms that the form holds."""
        data = self.cleaned_data
        hosts = tuple(data["allowed_hosts"].split())
        return Terms(data["kind"], data["issuer"], data["audience"], data["jwks_url"], hosts)


class ChangeForm(TermsForm):
    """The terms of a trust that can change; name, kind and issuer never do."""

    def __init__(self, *args: object, before: Any, **kwargs: object) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Handed through as they come.
        self.before = before
        for name in ("slug", "kind", "issuer"):
            del self.fields[name]

    def terms(self) -> Terms:
        """Return the terms that the form holds, with kind and issuer as they are."""
        data, hosts = self.cleaned_data, tuple(self.cleaned_data["allowed_hosts"].split())
        kind, issuer = self.before.kind, self.before.issuer
        return Terms(kind, issuer, data["audience"], data["jwks_url"], hosts)


class ClaimsForm(WhyForm):
    """The claims that a job's token must hold, one field for each that the issuer's kind demands."""

    more = forms.CharField(
        required=False,
        max_length=4000,
        label="More claims",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="One a line: name: value. Every claim must match exactly.",
    )

    def __init__(self, *args: object, trust: Any, **kwargs: object) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Handed through as they come.
        self.paths = claims.REQUIRED[trust.kind]
        for number, parts in enumerate(self.paths):
            self.fields[f"{_CLAIM}{number}"] = forms.CharField(
                label=" / ".join(parts),
                max_length=claims.MOST_CHARS,
                initial=trust.issuer if parts == ("iss",) else "",
            )
        self.order_fields([f"{_CLAIM}{number}" for number in range(len(self.paths))])

    @property
    def wanted(self) -> list[forms.BoundField]:
        """Return the fields of the claims that are demanded."""
        return [self[f"{_CLAIM}{number}"] for number in range(len(self.paths))]

    def claims(self) -> dict[str, Any]:
        """Return the claims, nested as tokens nest them; no further one begins like these."""
        found: dict[str, Any] = dict(self.cleaned_data["more"])
        for number, parts in enumerate(self.paths):
            place = found
            for part in parts[:-1]:
                place = place.setdefault(part, {})
            place[parts[-1]] = self.cleaned_data[f"{_CLAIM}{number}"]
        return found

    def clean_more(self) -> dict[str, str]:
        """Return the further claims. Raises ValidationError."""
        found: dict[str, str] = {}
        above = {parts[0] for parts in self.paths}
        for line in filter(str.strip, self.cleaned_data["more"].splitlines()):
            name, _, value = (part.strip() for part in line.partition(":"))
            if not (name and value):
                raise forms.ValidationError("Write each claim as name: value, one a line.")
            if name in above:
                raise forms.ValidationError(f"{name} has a field of its own above.")
            if name in found:
                raise forms.ValidationError(f"{name} is named twice. Each claim has one value.")
            found[name] = value
        return found


@gates.signed_in
@require_GET
def trusts_list(request: HttpRequest) -> HttpResponse:
    """List the issuers whose tokens we exchange, and the agents that come in by each."""
    rows = [{"trust": row, "agents": _names(request, row.slug)} for row in trusted.trusts()]
    may_change = accounts.has_role(sessions.person(request), ADMINISTRATORS)
    context = {"nav": "agents", "rows": rows, "may_change": may_change, "now": timezone.now()}
    return render(request, LIST, context)


@gates.role_required(ADMINISTRATORS)
@require_http_methods(["GET", "POST"])
def begin(request: HttpRequest) -> HttpResponse:
    """Ask to trust an issuer."""
    form = TermsForm(request.POST or None)
    return _answer(
        request,
        form,
        {"title": "Trust an issuer"},
        lambda: _ask(request, form, verb=change_trust.BEGIN, slug=form.cleaned_data["slug"]),
    )


@gates.role_required(ADMINISTRATORS)
@require_http_methods(["GET", "POST"])
def change(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask that other terms hold for a trust."""
    before = trusted.trust(slug)
    said = {
        "title": before.title,
        "audience": before.audience,
        "jwks_url": before.jwks_url,
        "allowed_hosts": "\n".join(before.allowed_hosts),
    }
    form = ChangeForm(request.POST or None, initial=said, before=before)
    context = {"title": f"Change the trust in {before.title}", "trust": before}
    return _answer(
        request, form, context, lambda: _ask(request, form, verb=change_trust.CHANGE, slug=slug)
    )


@gates.role_required(ADMINISTRATORS)
@require_http_methods(["GET", "POST"])
def end(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask to end a trust."""
    before, form = trusted.trust(slug), WhyForm(request.POST or None)
    context = {
        "title": f"End the trust in {before.title}",
        "trust": before,
        "agents": _names(request, slug),
        "ends": True,
    }

    def ask() -> Any:  # noqa: ANN401 - views do not import tables.
        return change_trust.ask(
            person=sessions.person(request),
            verb=change_trust.END,
            slug=slug,
            now=timezone.now(),
            **form.cleaned_data,
        )

    return _answer(request, form, context, ask)


@gates.signed_in
@require_http_methods(["GET", "POST"])
def bind(request: HttpRequest, name: str) -> HttpResponse:
    """Ask that jobs which a trusted issuer vouches for are this agent."""
    person = sessions.person(request)
    agent = access.access_agent(person, name, "equip")
    rows = list(trusted.open_trusts())
    slug = request.POST.get("trust") or request.GET.get("trust") or (rows[0].slug if rows else "")
    trust = trusted.trust(slug) if slug else None
    context = {"nav": "agents", "agent": agent, "trusts": rows, "trust": trust}
    if trust is None:
        return render(request, BIND, context)
    form = ClaimsForm(request.POST or None, trust=trust)

    def ask() -> Any:  # noqa: ANN401 - views do not import tables.
        return bind_agent.ask(
            person=person,
            agent=name,
            trust=trust.slug,
            claims=form.claims(),
            reason=form.cleaned_data["reason"],
            ticket=form.cleaned_data["ticket"],
            now=timezone.now(),
        )

    return _answer(request, form, context, ask, template=BIND)


def _ask(request: HttpRequest, form: TermsForm, *, verb: str, slug: str) -> Any:  # noqa: ANN401
    data = form.cleaned_data
    return change_trust.ask(
        person=sessions.person(request),
        verb=verb,
        slug=slug,
        title=data["title"],
        terms=form.terms(),
        reason=data["reason"],
        ticket=data["ticket"],
        now=timezone.now(),
    )


def _answer(
    request: HttpRequest,
    form: forms.Form,
    context: dict[str, Any],
    ask: Callable[[], Any],
    *,
    template: str = FORM,
) -> HttpResponse:
    """Ask, and go to the request; on a fault show the form again with what was typed."""
    if request.method == "POST" and form.is_valid():
        try:
            return redirect("request", ask().pk)
        except about_keys.AlreadyAsked as error:
            return redirect("request", error.request_id)
        except services.BadText as error:
            form.add_error(error.field, error.sentence)
        except _FAULTS as error:
            for sentence in getattr(error, "problems", [str(error)]):
                form.add_error(None, sentence)
    status = UNPROCESSABLE if form.errors else 200
    return render(request, template, {"nav": "agents", "form": form} | context, status=status)


def _names(request: HttpRequest, slug: str) -> dict[str, Any]:
    """Return the agents that a trust lets in which the reader may see, and how many more."""
    found = trusted.trusting(slug)
    seen = access.visible_agents(sessions.person(request)).filter(pk__in=found.values("pk"))
    return {"seen": seen, "hidden": found.count() - seen.count()}


urlpatterns = [
    path("trusts/", trusts_list, name="trusts"),
    path("trusts/new/", begin, name="trust-new"),
    path("trusts/<slug:slug>/change/", change, name="trust-change"),
    path("trusts/<slug:slug>/end/", end, name="trust-end"),
    path("agents/<slug:name>/jobs/new/", bind, name="agent-bind"),
]
