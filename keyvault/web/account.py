"""The own account: second factor, recovery codes, password, sessions."""

from __future__ import annotations

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from approvals import ports
from keyvault.accounts import (
    factors,
    gates,
    lockout,
    open_sessions,
    origin,
    own_account,
    selectors,
    sessions,
)
from keyvault.web import signin
from keyvault.web.signin import CodeForm

TEMPLATE = "keyvault/accounts/account.html"


class NewPasswordForm(forms.Form):
    """The current password and the one to come."""

    current = forms.CharField(
        label="Current password",
        max_length=4096,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    password = forms.CharField(
        label="New password",
        max_length=4096,
        strip=False,
        help_text="At least 12 characters, and not a common password. You sign in again after.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


@gates.signed_in
@require_GET
def account(request: HttpRequest) -> HttpResponse:
    """Show what the own account is made of."""
    return _show(request, NewPasswordForm())


def _show(request: HttpRequest, form: forms.Form, *, status: int = 200) -> HttpResponse:
    user, now = sessions.person(request), timezone.now()
    context = {
        "form": form,
        "person": user,
        "teams": selectors.teams_of(user),
        "authenticator": selectors.authenticator(user),
        "codes_left": selectors.recovery_codes_left(user),
        "sessions": open_sessions.of(request, now=now),
        "now": now,
    }
    return render(request, TEMPLATE, context, status=status)


@gates.signed_in
@require_POST
def recovery_codes(request: HttpRequest) -> HttpResponse:
    """Make new recovery codes after a fresh code of the app; the old ones stop working."""
    user = sessions.person(request)
    proof = ports.presence().ask(
        request,
        title="Make new recovery codes",
        sentence="Ten new recovery codes replace the ones you have; those stop working.",
        digest=own_account.digest(own_account.RECOVERY, user),
    )
    if isinstance(proof, HttpResponse):
        return proof
    fresh = own_account.new_recovery_codes(user=user, proof_id=proof.id, now=timezone.now())
    return signin.codes_page(request, fresh, action=reverse("enrol-codes"))


@gates.signed_in
@require_POST
def replace_begin(request: HttpRequest) -> HttpResponse:
    """Open the replacement of the authenticator after a fresh code of the old one."""
    user = sessions.person(request)
    proof = ports.presence().ask(
        request,
        title="Replace the authenticator",
        sentence="You enrol another app. After that you may not decide anything for 24 hours.",
        digest=own_account.digest(own_account.REPLACE, user),
    )
    if isinstance(proof, HttpResponse):
        return proof
    own_account.begin_replacement(user=user, proof_id=proof.id, now=timezone.now())
    return redirect("account-factor")


@gates.signed_in
@require_http_methods(["GET", "POST"])
def replace(request: HttpRequest) -> HttpResponse:
    """Show the new seed and take one code of it."""
    user, now = sessions.person(request), timezone.now()
    if not own_account.may_replace(user, now=now):
        return redirect("account")
    form, status = CodeForm(request.POST or None), 200
    if request.method == "POST":
        try:
            code = request.POST.get("code", "")
            device, fresh = factors.confirm(
                user=user, code=code, ip=origin.address(request), now=now
            )
        except (factors.BadCode, factors.CodeUsed, lockout.LockedOut) as error:
            status = signin.explain(form, error, signin.WRONG_CODE)
        else:
            sessions.verify(request, user, device, now=now)
            return signin.codes_page(request, fresh, action=reverse("enrol-codes"))
    context = {"form": form, **signin.enrolment(request)}
    return render(request, "keyvault/accounts/replace.html", context, status=status)


@gates.signed_in
@sensitive_post_parameters("current", "password")
@require_POST
def password(request: HttpRequest) -> HttpResponse:
    """Change the password; every session ends, and this browser signs in again.

    Password and code come in one form, so that no page carries a password to
    another one.
    """
    user, form = sessions.person(request), NewPasswordForm(request.POST)
    if not form.is_valid():
        return _show(request, form, status=422)
    try:
        own_account.change_password(
            user=user,
            **form.cleaned_data,
            code=request.POST.get("otp_code", ""),
            ip=origin.address(request),
            now=timezone.now(),
        )
    except own_account.WrongPassword as error:
        form.add_error("current", str(error))
    except ValidationError as error:
        form.add_error("password", error)
    except (factors.BadCode, factors.CodeUsed, lockout.LockedOut) as error:
        signin.explain(form, error, signin.WRONG_CODE)
    else:
        return redirect("login")
    return _show(request, form, status=422)


@gates.signed_in
@require_POST
def sign_out_everywhere(request: HttpRequest) -> HttpResponse:
    """End every session of the person, this one too."""
    own_account.end_sessions(user=sessions.person(request), now=timezone.now())
    return redirect("login")


@gates.signed_in
@require_POST
def end_session(request: HttpRequest, label: str) -> HttpResponse:
    """End one session of the person. Raises NotVisible for anybody else's."""
    open_sessions.end(user=sessions.person(request), label=label, now=timezone.now())
    return redirect("account")


urlpatterns = [
    path("account/security/", account, name="account"),
    path("account/security/recovery-codes/", recovery_codes, name="account-codes"),
    path("account/security/authenticator/begin/", replace_begin, name="account-factor-begin"),
    path("account/security/authenticator/", replace, name="account-factor"),
    path("account/security/password/", password, name="account-password"),
    path("account/security/sessions/<slug:label>/end/", end_session, name="account-session-end"),
    path("account/security/sign-out/", sign_out_everywhere, name="account-sign-out"),
]
