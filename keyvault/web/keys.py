"""Keys: the list, one key in its sections, and asking to revoke or to see one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from approvals import ports, services
from approvals import selectors as approvals
from approvals.policy.matching import NoPolicy
from keyvault.accounts import gates, sessions
from keyvault.actions import (
    about_keys,
    finish_rotation,
    renew_connection,
    reveal_secret,
    revoke_key,
    rotate_key,
    rotate_keys,
    try_connection,
)
from keyvault.inventory import selectors
from keyvault.inventory.selectors import Filters
from keyvault.vault import selectors as versions
from keyvault.web import key_page
from keyvault.web.lists import Frame

LIST = Frame(
    "keys",
    "key",
    "keys",
    chips=(
        ("all", "All", ""),
        ("mine", "Mine", "owner=me"),
        ("live", "Active", "state=live"),
        ("expiring", "Expiring in 14 days", "due=expiring"),
        ("overdue", "Overdue", "due=overdue"),
        ("revoked", "Revoked", "state=revoked"),
    ),
)
UNPROCESSABLE = 422
# What an act on a key says of itself when it cannot be asked for.
REFUSALS = (
    revoke_key.NotRevocable,
    reveal_secret.NotRevealable,
    rotate_key.NotRotatable,
    rotate_keys.NotRotatable,
    finish_rotation.NotHeld,
    renew_connection.NotRenewable,
    try_connection.NotTriable,
    NoPolicy,
    services.Denied,
)
REVOKE, REVEAL = "keyvault/keys/revoke.html", "keyvault/keys/ask_reveal.html"


class ReasonForm(forms.Form):
    """Why something is asked for."""

    reason = forms.CharField(
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Approvers read this.",
    )
    ticket = forms.CharField(required=False, max_length=120)


@gates.signed_in
@require_GET
def keys(request: HttpRequest) -> HttpResponse:
    """List the keys that this person may see, with filters, chips and keyset pages."""
    person, now = sessions.person(request), timezone.now()
    filters = Filters.parse(request.GET.dict())
    page = selectors.keys_for(
        person,
        filters,
        now=now,
        after=request.GET.get("after", ""),
        before=request.GET.get("before", ""),
    )
    counts = selectors.counts(person, now=now)
    context = {
        "nav": "keys",
        "now": now,
        "filters": filters,
        "rows": [
            {
                "key": key,
                "marks": selectors.marks(key, now=now),
                "life": key_page.life(key, (), now=now) if key.live_at else None,
            }
            for key in page.keys
        ],
        **LIST.around(filters, page, counts),
        "environments": selectors.environments(),
        "chosen": urlencode(filters.active),
        "is_first_use": not counts["all"],
    }
    return render(request, "keyvault/keys/keys.html", context)


@gates.signed_in
@require_GET
def key(request: HttpRequest, name: str, tab: str = key_page.OVERVIEW) -> HttpResponse:
    """Show one section of a key."""
    context = key_page.page(sessions.person(request), name, tab=tab, now=timezone.now())
    return render(request, f"keyvault/keys/{tab}.html", context)


@gates.signed_in
def odd(request: HttpRequest, address: str) -> HttpResponse:
    """Refuse an address that tries to climb out of itself, whatever it would lead to."""
    del request, address
    raise BadRequest("An address has no empty part and no dots for a part.")


@gates.signed_in
@require_http_methods(["GET", "POST"])
def revoke(request: HttpRequest, name: str) -> HttpResponse:
    """Show what a revocation would end and break, and ask for it with a fresh factor."""
    person, now = sessions.person(request), timezone.now()
    action = revoke_key.plan(person=person, name=name)
    plan = action.describe()
    form = ReasonForm(request.POST or None)
    context = {
        "name": name,
        "nav": "keys",
        "now": now,
        "form": form,
        "plan": plan,
        "preview": approvals.preview(action, person, now=now),
        "versions": versions.live(action.key_id),
    }
    if request.method == "GET" or not form.is_valid():
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, REVOKE, context, status=status)
    proof = ports.presence().ask(
        request,
        sentence=f"Ask to revoke {plan.target.label} for good.",
        digest=revoke_key.act_digest(plan),
        title="Ask to revoke",
    )
    if isinstance(proof, HttpResponse):
        return proof
    return asked(
        request,
        REVOKE,
        context,
        lambda: revoke_key.ask(
            person=person, name=name, proof_id=proof.id, now=now, **form.cleaned_data
        ),
    )


@gates.signed_in
@require_http_methods(["GET", "POST"])
def ask_reveal(request: HttpRequest, name: str) -> HttpResponse:
    """Ask that this person may see the current value once."""
    person, now = sessions.person(request), timezone.now()
    action = reveal_secret.plan(person=person, name=name)
    form = ReasonForm(request.POST or None)
    context = {
        "name": name,
        "nav": "keys",
        "now": now,
        "form": form,
        "plan": action.describe(),
        "preview": approvals.preview(action, person, now=now),
    }
    if request.method == "GET" or not form.is_valid():
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, REVEAL, context, status=status)
    return asked(
        request,
        REVEAL,
        context,
        lambda: reveal_secret.ask(person=person, name=name, now=now, **form.cleaned_data),
    )


def asked(
    request: HttpRequest, template: str, context: dict[str, Any], ask: Callable[[], Any]
) -> HttpResponse:
    """Ask, and go to the request; on a fault show the form again with what was typed."""
    form: ReasonForm = context["form"]
    try:
        return redirect("request", ask().pk)
    except about_keys.AlreadyAsked as error:
        return redirect("request", error.request_id)
    except services.BadText as error:
        form.add_error(error.field if error.field in form.fields else None, error.sentence)
    except REFUSALS as error:
        form.add_error(None, str(error))
    return render(request, template, context, status=UNPROCESSABLE)
