"""The ways in and out: password, second factor, recovery code, enrolment, signing out."""

from __future__ import annotations

import secrets
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from keyvault.accounts import factors, gates, lockout, origin, qr, selectors, sessions, signin, totp
from keyvault.web import demo_people, moments
from keyvault.web.redirects import next_page

GENERIC = "That user name and password do not open an account."
WRONG_CODE = "That code is not right. Type the six digits that the app shows now."
WRONG_RECOVERY = "That recovery code is not right, or was used already."
NUMBER_ASKED = "recovery_number"


class PasswordForm(forms.Form):
    """User name and password; pasting and password managers are welcome."""

    username = forms.CharField(
        label="User name",
        max_length=200,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    password = forms.CharField(
        max_length=signin.LONGEST_PASSWORD,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class CodeForm(forms.Form):
    """Six digits of an authenticator app; their shape is judged where they are checked."""

    code = forms.CharField(
        label="Code",
        max_length=totp.DIGITS,
        strip=False,
        help_text="Six digits from your authenticator app.",
        widget=forms.TextInput(
            attrs={
                "class": "code",
                "inputmode": "numeric",
                "autocomplete": "one-time-code",
                "autofocus": True,
            }
        ),
    )


class RecoveryForm(forms.Form):
    """One recovery code, with or without its dashes."""

    code = forms.CharField(
        label="Recovery code",
        max_length=100,
        help_text="Four groups of five, from the sheet you kept. Each works once.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


def locked_sentence(error: lockout.LockedOut) -> str:
    """Say when trying again makes sense."""
    wait = moments.span(error.until - timezone.now())
    return f"Too many tries. You can try again in {wait}, at {error.until:%H:%M:%S} UTC."


@gates.visitor
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def login(request: HttpRequest) -> HttpResponse:
    """Ask for user name and password; the second factor comes next."""
    if sessions.is_verified(request):
        return redirect(next_page(request))
    form = PasswordForm(demo_people.credentials(request) or request.POST or None)
    status = 200
    if request.method == "POST":
        try:
            return _check_password(request, form)
        except (signin.BadCredentials, lockout.LockedOut) as error:
            status = explain(form, error, GENERIC)
    return _page(request, "login", form, status=status, people=demo_people.listed(request))


def _check_password(request: HttpRequest, form: PasswordForm) -> HttpResponse:
    """Open half a session. Raises BadCredentials, LockedOut."""
    if not form.is_valid():
        raise signin.BadCredentials("incomplete")
    now = timezone.now()
    user = signin.check(**form.cleaned_data, ip=origin.address(request), now=now)
    sessions.open_half(request, user, now=now)
    return _go(request, "enrol" if factors.may_enrol(user, now=now) else "mfa")


@gates.half_signed_in
@require_http_methods(["GET", "POST"])
def mfa(request: HttpRequest) -> HttpResponse:
    """Ask for the code of the authenticator app."""
    user = sessions.person(request)
    if sessions.is_verified(request):
        return redirect(next_page(request))
    if not selectors.is_enrolled(user):
        return _without_factor(request)
    form, status = CodeForm(request.POST or None), 200
    if request.method == "POST":
        now = timezone.now()
        try:
            code = request.POST.get("code", "")
            device = factors.verify(user=user, code=code, ip=origin.address(request), now=now)
        except (factors.BadCode, factors.CodeUsed, lockout.LockedOut) as error:
            status = explain(form, error, WRONG_CODE)
        else:
            sessions.verify(request, user, device, now=now)
            return redirect(next_page(request))
    return _page(request, "mfa", form, status=status)


def _without_factor(request: HttpRequest) -> HttpResponse:
    """Send an invited person to enrolment; tell others that a password alone enrols nothing."""
    if factors.may_enrol(sessions.person(request), now=timezone.now()):
        return _go(request, "enrol")
    return render(request, "keyvault/accounts/no_factor.html", status=403)


@gates.half_signed_in
@require_http_methods(["GET", "POST"])
def recovery(request: HttpRequest) -> HttpResponse:
    """Ask for a recovery code in place of the app's code."""
    if sessions.is_verified(request):
        return redirect(next_page(request))
    user, form, status = sessions.person(request), RecoveryForm(request.POST or None), 200
    if request.method == "POST":
        now = timezone.now()
        try:
            code = request.POST.get("code", "")
            sheet = factors.verify_recovery(
                user=user, code=code, ip=origin.address(request), now=now
            )
        except (factors.BadCode, lockout.LockedOut) as error:
            status = explain(form, error, WRONG_RECOVERY)
        else:
            sessions.verify(request, user, sheet, now=now)
            return redirect("account")
    return _page(request, "recovery", form, status=status)


@gates.half_signed_in
@require_http_methods(["GET", "POST"])
def enrol(request: HttpRequest) -> HttpResponse:
    """Enrol the first authenticator of an invited person, then show recovery codes once."""
    now, user = timezone.now(), sessions.person(request)
    if not factors.may_enrol(user, now=now):
        return _go(request, "mfa")
    form, status = CodeForm(request.POST or None), 200
    if request.method == "POST":
        try:
            code = request.POST.get("code", "")
            device, fresh = factors.confirm(
                user=user, code=code, ip=origin.address(request), now=now
            )
        except (factors.BadCode, factors.CodeUsed, lockout.LockedOut) as error:
            status = explain(form, error, WRONG_CODE)
        else:
            sessions.verify(request, user, device, now=now)
            return codes_page(request, fresh, action=reverse("enrol-codes"))
    return _page(request, "enrol", form, status=status, **enrolment(request))


def enrolment(request: HttpRequest) -> dict[str, Any]:
    """Return what the enrolment page shows: QR code and the same seed as grouped text."""
    begun = factors.begin(user=sessions.person(request), now=timezone.now())
    return {"qr": qr.draw(begun.address), "seed_groups": begun.seed_groups}


def codes_page(
    request: HttpRequest, fresh: list[str], *, action: str, template: str = "accounts"
) -> HttpResponse:
    """Show recovery codes, this once, and ask for one of them back. Answers a POST only."""
    number = secrets.randbelow(len(fresh)) + 1
    request.session[NUMBER_ASKED] = number
    context = {"codes": fresh, "number": number, "action": action, "next": next_page(request)}
    return render(request, f"keyvault/{template}/codes.html", context)


@gates.signed_in
@require_http_methods(["GET", "POST"])
def enrol_codes(request: HttpRequest) -> HttpResponse:
    """Take one recovery code back as proof that the sheet was kept."""
    number = request.session.get(NUMBER_ASKED)
    if number is None:
        return redirect("account")
    form, status = RecoveryForm(request.POST or None), 200
    if request.method == "POST":
        try:
            prove_copied(request)
        except factors.BadCode:
            status = explain(form, factors.BadCode(), f"That is not code {number} of your sheet.")
        else:
            return redirect(next_page(request))
    return _page(request, "codes_again", form, status=status, number=number)


def prove_copied(request: HttpRequest) -> None:
    """Check the recovery code typed back. Raises BadCode."""
    factors.prove_copied(
        user=sessions.person(request),
        number=request.session.get(NUMBER_ASKED, 0),
        typed=request.POST.get("code", ""),
        now=timezone.now(),
    )
    del request.session[NUMBER_ASKED]


@gates.half_signed_in
@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    """End the session."""
    sessions.end(request, now=timezone.now())
    return redirect("login")


def explain(form: forms.Form, error: Exception, wrong: str) -> int:
    """Put what went wrong into one sentence and return the status to answer with."""
    if isinstance(error, lockout.LockedOut):
        say(form, locked_sentence(error))
        return 429
    say(form, str(error) if isinstance(error, factors.CodeUsed) else wrong)
    return 422


def say(form: forms.Form, sentence: str) -> None:
    """Make a sentence the only error of a form."""
    # A POST without a single field leaves its form unbound, and that takes no error.
    form.is_bound = True
    form.full_clean()
    form.errors.clear()
    for field in form.fields.values():
        field.widget.attrs.pop("autofocus", None)  # The summary of what is wrong takes it.
    form.add_error(None, sentence)


def _page(
    request: HttpRequest, name: str, form: forms.Form, *, status: int, **extra: object
) -> HttpResponse:
    context = {"form": form, "next": next_page(request), **extra}
    return render(request, f"keyvault/accounts/{name}.html", context, status=status)


def _go(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponseRedirect(f"{reverse(name)}?{urlencode({'next': next_page(request)})}")


urlpatterns = [
    path("auth/login/", login, name="login"),
    path("auth/mfa/", mfa, name="mfa"),
    path("auth/recovery/", recovery, name="recovery"),
    path("auth/enrol/", enrol, name="enrol"),
    path("auth/enrol/codes/", enrol_codes, name="enrol-codes"),
    path("auth/logout/", logout, name="logout"),
]
