"""The page where a person confirms the sign-in of a command line by its code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from approvals import ports
from keyvault.accounts import gates, lockout, origin, sessions
from keyvault.agents import device_flow
from keyvault.web.signin import locked_sentence

if TYPE_CHECKING:
    from keyvault.agents.devices import DeviceLogin

TEMPLATE = "keyvault/accounts/device.html"
WRONG = "No sign-in waits under this code. Codes hold for ten minutes; begin again if it is older."


class CodeForm(forms.Form):
    """The code that the command line shows."""

    user_code = forms.CharField(
        label="Code",
        max_length=20,
        help_text="Eight letters, as your terminal shows them.",
        widget=forms.TextInput(
            attrs={
                "autocomplete": "off",
                "autocapitalize": "characters",
                "spellcheck": "false",
                "class": "code",
            }
        ),
    )


@gates.signed_in
@require_http_methods(["GET", "POST"])
def device(request: HttpRequest) -> HttpResponse:
    """Take the code, then show what asks and what it would get."""
    form = CodeForm(request.POST or None)
    login = _found(request, form) if request.method == "POST" else None
    if login is None:
        status = 422 if form.errors else 200
        return render(request, TEMPLATE, {"form": form}, status=status)
    context = {"login": login, "user_code": form.cleaned_data["user_code"]}
    return render(request, "keyvault/accounts/device_confirm.html", context)


@gates.signed_in
@require_POST
def decide(request: HttpRequest) -> HttpResponse:
    """Allow after a fresh code of the app, or refuse."""
    form, person = CodeForm(request.POST), sessions.person(request)
    login = _found(request, form)
    if login is None:
        return render(request, TEMPLATE, {"form": form}, status=422)
    if request.POST.get("decision") != "allow":
        login = device_flow.refuse(login_id=login.pk, user=person, now=timezone.now())
        return _told(request, login)
    proof = ports.presence().ask(
        request,
        title="Sign this command line in",
        sentence=f"{login.client_name or 'A command line'}, which asked from {login.came_from}, "
        "may read metadata and ask for acts as you, for 8 hours. It is given no secret.",
        digest=device_flow.act_digest(login, person),
    )
    if isinstance(proof, HttpResponse):
        return proof
    login = device_flow.allow(login_id=login.pk, user=person, proof_id=proof.id, now=timezone.now())
    return _told(request, login)


def _found(request: HttpRequest, form: CodeForm) -> DeviceLogin | None:
    """Return the sign-in that the form names, or None with the error in the form."""
    if not form.is_valid():
        return None
    try:
        return device_flow.find(
            code=form.cleaned_data["user_code"],
            user=sessions.person(request),
            ip=origin.address(request),
            now=timezone.now(),
        )
    except device_flow.WrongCode:
        form.add_error("user_code", WRONG)
    except lockout.LockedOut as error:
        form.add_error("user_code", locked_sentence(error))
    return None


def _told(request: HttpRequest, login: DeviceLogin) -> HttpResponse:
    return render(request, "keyvault/accounts/device_done.html", {"login": login})


urlpatterns = [
    path("device/", device, name="device"),
    path("device/decide/", decide, name="device-decide"),
]
