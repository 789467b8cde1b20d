"""The ways of an agent to authenticate: a secret that is shown once, a public key, and their end."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from approvals import ports
from keyvault.accounts import gates, sessions
from keyvault.agents import access, clients, equipment
from keyvault.agents import services as agents

SECRET, KEY = "keyvault/agents/secret.html", "keyvault/agents/public_key.html"
SHOWN = "keyvault/agents/secret_shown.html"
UNPROCESSABLE = 422
_REFUSALS = (agents.Retired, clients.TooMany, clients.BadLifetime, clients.KeyKnown)


class SecretForm(forms.Form):
    """How long a client secret opens anything."""

    days = forms.IntegerField(
        label="Ends after … days",
        min_value=1,
        max_value=equipment.SECRET_MOST_DAYS,
        initial=30,
        help_text="Two may live at a time, so that the next one is rolled out before this one ends.",
    )


class KeyForm(forms.Form):
    """The public half of a key pair, and how long it opens anything."""

    public_key = forms.CharField(
        label="Public key",
        max_length=8000,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "autocomplete": "off"}),
        help_text="A JWK: Ed25519, P-256 or RSA from 2048 bits. Never the private half.",
    )
    days = forms.IntegerField(
        label="Ends after … days", min_value=1, max_value=equipment.KEY_MOST_DAYS, initial=365
    )

    def clean_public_key(self) -> dict[str, object]:
        """Return the key as JSON. Raises ValidationError."""
        try:
            return equipment.public_key(self.cleaned_data["public_key"])
        except equipment.BadKey as error:
            raise forms.ValidationError(str(error)) from error


@gates.signed_in
@require_http_methods(["GET", "POST"])
@sensitive_variables()
def add_secret(request: HttpRequest, name: str) -> HttpResponse:
    """Make a client secret after a fresh code, and show it in this one answer."""
    person, now = sessions.person(request), timezone.now()
    agent = access.access_agent(person, name, "equip")
    form = SecretForm(request.POST or None)
    context = {"nav": "agents", "agent": agent, "form": form, "now": now}
    if request.method == "GET" or not form.is_valid():
        return _form(request, SECRET, context)
    days = form.cleaned_data["days"]
    proof = ports.presence().ask(
        request,
        sentence=f"Make a client secret for {name} that ends after {days} days.",
        digest=equipment.digest(equipment.SECRET, agent, days=days),
        title="Make a client secret",
    )
    if isinstance(proof, HttpResponse):
        return proof
    try:
        made = equipment.add_secret(person=person, name=name, days=days, proof_id=proof.id, now=now)
    except _REFUSALS as error:
        form.add_error(None, str(error))
        return _form(request, SECRET, context)
    shown = {"client": made.client, "secret": made.text.reveal().decode()}
    response = render(request, SHOWN, context | shown)
    response["Cache-Control"] = "no-store, private"
    return response


@gates.signed_in
@require_http_methods(["GET", "POST"])
@sensitive_post_parameters("public_key")
@sensitive_variables()
def add_key(request: HttpRequest, name: str) -> HttpResponse:
    """Register a public key after a fresh code."""
    person, now = sessions.person(request), timezone.now()
    agent = access.access_agent(person, name, "equip")
    form = KeyForm(request.POST or None)
    context = {"nav": "agents", "agent": agent, "form": form, "now": now}
    if request.method == "GET" or not form.is_valid():
        return _form(request, KEY, context | {"form": _without_paste(form)})
    given = form.cleaned_data
    proof = ports.presence().ask(
        request,
        sentence=f"Let {name} prove itself by this key pair for {given['days']} days.",
        digest=equipment.digest(
            equipment.KEY, agent, days=given["days"], jwk=dict(given["public_key"])
        ),
        title="Register a public key",
    )
    if isinstance(proof, HttpResponse):
        return proof
    try:
        equipment.add_key(
            person=person,
            name=name,
            public_jwk=given["public_key"],
            days=given["days"],
            proof_id=proof.id,
            now=now,
        )
    except _REFUSALS as error:
        form.add_error(None, str(error))
        return _form(request, KEY, context)
    messages.success(request, f"{name} can prove itself by this key pair now.")
    return redirect("agent-authentication", name)


@gates.signed_in
@require_POST
def end_client(request: HttpRequest, name: str, client_id: UUID) -> HttpResponse:
    """End a secret or a public key, with every token it brought, after a fresh code."""
    person = sessions.person(request)
    found = equipment.client(person=person, name=name, client_id=client_id)
    what = f"{found.get_kind_display()} {found.public_id}"
    proof = ports.presence().ask(
        request,
        sentence=f"End this way of {name} to authenticate, with its tokens, now: {what}.",
        digest=equipment.digest(equipment.END, found.agent, client=str(found.pk)),
        title="End it",
    )
    if isinstance(proof, HttpResponse):
        return proof
    effect = equipment.end_client(
        person=person, name=name, client_id=client_id, proof_id=proof.id, now=timezone.now()
    )
    messages.success(request, f"{what} is ended. {effect.sentence}")
    return redirect("agent-authentication", name)


@gates.signed_in
@require_POST
def end_binding(request: HttpRequest, name: str, binding_id: UUID) -> HttpResponse:
    """End the claims by which jobs are this agent, after a fresh code."""
    person = sessions.person(request)
    found = equipment.binding(person=person, name=name, binding_id=binding_id)
    proof = ports.presence().ask(
        request,
        sentence=f"Jobs of {found.trust.title} with these claims are no longer {name}, from now on.",
        digest=equipment.digest(equipment.UNBIND, found.agent, binding=str(found.pk)),
        title="End it",
    )
    if isinstance(proof, HttpResponse):
        return proof
    effect = equipment.end_binding(
        person=person, name=name, binding_id=binding_id, proof_id=proof.id, now=timezone.now()
    )
    messages.success(request, f"Those jobs are no longer {name}. {effect.sentence}")
    return redirect("agent-authentication", name)


def _form(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    status = UNPROCESSABLE if context["form"].errors else 200
    return render(request, template, context, status=status)


def _without_paste(form: KeyForm) -> KeyForm:
    """Return the form without what was pasted: it may have been a private key."""
    if form.is_bound and "public_key" in form.errors:
        form.data = {**dict(form.data.items()), "public_key": ""}
    return form
