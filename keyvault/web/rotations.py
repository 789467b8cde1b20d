"""Rotations: the list, one of them live, asking for one, and deciding about one that runs or is held."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from approvals import ports, services
from approvals import selectors as approvals
from keyvault.accounts import gates, sessions
from keyvault.actions import about_keys, finish_rotation, hurry_rotation, rotate_key
from keyvault.rotation import deciding
from keyvault.rotation.services import WrongMoment
from keyvault.web import rotation_page
from keyvault.web.keys import REFUSALS, ReasonForm, asked

ASK, FINISH = "keyvault/rotations/rotate.html", "keyvault/rotations/finish.html"
SKIP = "keyvault/rotations/skip.html"
UNPROCESSABLE = 422
_ACTS = {
    "roll-back": deciding.roll_back,
    "extend": deciding.extend,
}
_DONE = {
    "roll-back": "If the old version works, everybody is led back to it.",
    "extend": "The rotation goes on; its grace has begun anew.",
}
_HURRIED = "The rotation waits no longer than one that an incident begins."
_TO_BE_AGREED = "Policy has others agree to an incident first. Nothing is cut before they do."


class WhyForm(forms.Form):
    """Why something is decided about a rotation."""

    reason = forms.CharField(max_length=400, help_text="It stands in the ledger.")


@gates.signed_in
@require_GET
def rotations(request: HttpRequest) -> HttpResponse:
    """List the rotations of the keys that this person may see."""
    context = rotation_page.listing(
        sessions.person(request),
        state=request.GET.get("state", ""),
        page=request.GET.get("page", "1"),
    )
    return render(request, "keyvault/rotations/rotations.html", context)


@gates.signed_in
@require_GET
def rotation(request: HttpRequest, rotation_id: UUID) -> HttpResponse:
    """Show one rotation: who has the new version, by what proof, and what can be decided."""
    context = rotation_page.page(sessions.person(request), rotation_id, now=timezone.now())
    return render(request, "keyvault/rotations/rotation.html", context)


@gates.signed_in
@require_http_methods(["GET", "POST"])
def rotate(request: HttpRequest, name: str) -> HttpResponse:
    """Show what a rotation would do and ask for it."""
    person, now = sessions.person(request), timezone.now()
    action = rotate_key.plan(person=person, name=name)
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
        return render(request, ASK, context, status=status)
    return asked(
        request,
        ASK,
        context,
        lambda: rotate_key.ask(person=person, name=name, now=now, **form.cleaned_data),
    )


@gates.signed_in
@require_POST
def decide(request: HttpRequest, rotation_id: UUID, act: str) -> HttpResponse:
    """Send a rotation back, or give a held one more time."""
    form = WhyForm(request.POST)
    if not form.is_valid():
        return _says_why(request, rotation_id)
    return _done(
        request,
        rotation_id,
        lambda person, now: _ACTS[act](
            person=person, rotation_id=rotation_id, now=now, **form.cleaned_data
        ),
        _DONE[act],
    )


@gates.signed_in
@require_POST
def hurry(request: HttpRequest, rotation_id: UUID) -> HttpResponse:
    """Have a rotation wait as little as an incident's, or go to the request for one."""
    form = WhyForm(request.POST)
    if not form.is_valid():
        return _says_why(request, rotation_id)
    try:
        asked_for = hurry_rotation.hurry(
            person=sessions.person(request),
            rotation_id=rotation_id,
            now=timezone.now(),
            **form.cleaned_data,
        )
    except about_keys.AlreadyAsked as error:
        return redirect("request", error.request_id)
    except (*REFUSALS, WrongMoment, services.BadText) as error:
        messages.error(request, str(error))
        return redirect("rotation", rotation_id)
    if asked_for is None:
        messages.success(request, _HURRIED)
        return redirect("rotation", rotation_id)
    messages.info(request, _TO_BE_AGREED)
    return redirect("request", asked_for.pk)


@gates.signed_in
@require_POST
def confirm(request: HttpRequest, rotation_id: UUID, delivery_id: int) -> HttpResponse:
    """Say that a dependent which no program can watch has moved."""
    return _done(
        request,
        rotation_id,
        lambda person, now: deciding.confirm(
            person=person, rotation_id=rotation_id, delivery_id=delivery_id, now=now
        ),
        "Noted.",
    )


@gates.signed_in
@require_http_methods(["GET", "POST"])
def excuse(request: HttpRequest, rotation_id: UUID, delivery_id: int) -> HttpResponse:
    """Say what may break, and go on without waiting for one dependent after a fresh code."""
    person = sessions.person(request)
    found = deciding.delivery(person, rotation_id, delivery_id)
    form = WhyForm(request.POST or None)
    if not form.is_valid():
        context = {
            "nav": "rotations",
            "rotation": deciding.access_rotation(person, rotation_id),
            "delivery": found,
            "form": form,
        }
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, SKIP, context, status=status)
    proof = ports.presence().ask(
        request,
        sentence=f"Go on without waiting for {found.dependent.name}.",
        digest=deciding.excuse_digest(found),
        title="Skip a dependent",
    )
    if isinstance(proof, HttpResponse):
        return proof
    return _done(
        request,
        rotation_id,
        lambda person, now: deciding.excuse(
            person=person,
            rotation_id=rotation_id,
            delivery_id=delivery_id,
            proof_id=proof.id,
            now=now,
            **form.cleaned_data,
        ),
        f"The rotation does not wait for {found.dependent.name}.",
    )


@gates.signed_in
@require_http_methods(["GET", "POST"])
def finish(request: HttpRequest, rotation_id: UUID) -> HttpResponse:
    """Show who may break if a held rotation goes on as it is, and ask for it."""
    person, now = sessions.person(request), timezone.now()
    found = deciding.access_rotation(person, rotation_id)
    action = finish_rotation.FinishRotation(rotation_id=rotation_id)
    form = ReasonForm(request.POST or None)
    context = {
        "rotation": found,
        "nav": "rotations",
        "now": now,
        "form": form,
        "plan": action.describe(),
        "preview": approvals.preview(action, person, now=now),
    }
    if request.method == "GET" or not form.is_valid():
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, FINISH, context, status=status)
    return asked(
        request,
        FINISH,
        context,
        lambda: finish_rotation.ask(
            person=person, rotation_id=rotation_id, now=now, **form.cleaned_data
        ),
    )


def _says_why(request: HttpRequest, rotation_id: UUID) -> HttpResponse:
    messages.error(request, "Say why: it stands in the ledger.")
    return redirect("rotation", rotation_id)


def _done(request: HttpRequest, rotation_id: UUID, act: Any, said: str) -> HttpResponse:  # noqa: ANN401
    """Do what a person decided and go back to the page, with the reason where it cannot be."""
    try:
        act(sessions.person(request), timezone.now())
    except WrongMoment as error:
        messages.error(request, str(error))
    else:
        messages.success(request, said)
    return redirect("rotation", rotation_id)
