"""Addresses at which dependents say how they are: the form that asks for one, and its end."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from approvals import services
from approvals.policy.matching import NoPolicy
from keyvault.accounts import gates, sessions
from keyvault.actions import about_keys, add_probe, name_dependent
from keyvault.dependents import selectors
from keyvault.inventory import access
from keyvault.web.keys import ReasonForm

FORM = "keyvault/keys/probe.html"
UNPROCESSABLE = 422


class ProbeForm(forms.Form):
    """The address of one dependent, in which network it lies, and why."""

    address = forms.CharField(
        max_length=300,
        help_text="Such as https://orders.example.com/health. A GET without a secret goes there; no query, no redirect.",
    )
    is_private = forms.BooleanField(
        label="It lies in our own network",
        required=False,
        help_text="Those who approve open this host and port for it, and no other.",
    )
    reason = ReasonForm.base_fields["reason"]
    ticket = ReasonForm.base_fields["ticket"]


@gates.signed_in
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest, name: str, dependent_id: UUID) -> HttpResponse:
    """Ask that an address says how a dependent is."""
    person, now = sessions.person(request), timezone.now()
    key = access.access_key(person, name, "rotate")
    row = selectors.by_id(key.pk, dependent_id)
    form = ProbeForm(request.POST or None)
    context = {"nav": "keys", "key": key, "row": row, "form": form, "now": now}
    if request.method == "GET" or not form.is_valid():
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, FORM, context, status=status)
    try:
        made = add_probe.ask(
            person=person, key=name, dependent=row.name, now=now, **form.cleaned_data
        )
        return redirect("request", made.pk)
    except about_keys.AlreadyAsked as error:
        return redirect("request", error.request_id)
    except add_probe.NotAskable as error:
        form.add_error(error.field or None, str(error))
    except services.BadText as error:
        form.add_error(error.field if error.field in form.fields else None, error.sentence)
    except (services.Denied, NoPolicy) as error:
        form.add_error(None, str(error))
    return render(request, FORM, context, status=UNPROCESSABLE)


@gates.signed_in
@require_POST
def end(request: HttpRequest, name: str, dependent_id: UUID) -> HttpResponse:
    """Ask the address of a dependent no more."""
    row = name_dependent.stop_asking(
        person=sessions.person(request), key=name, dependent_id=dependent_id, now=timezone.now()
    )
    messages.success(request, f"keyvault does not ask {row.name} any more.")
    return redirect("key-dependents", name)
