"""Set-up of an empty installation, step by step; closed for good at its end."""

from __future__ import annotations

from collections.abc import Callable

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from keyvault import readiness
from keyvault.accounts import factors, gates, lockout, names, origin, sessions, setup
from keyvault.actions import installation
from keyvault.web import signin
from keyvault.web.signin import CodeForm, RecoveryForm

RIGHT = "setup_right"
CHECKED = "setup_checked"
TOKEN, CHECKS, PERSON, FACTOR, CODES = "token", "checks", "person", "factor", "codes"
STEPS = {TOKEN: 1, CHECKS: 2, PERSON: 3, FACTOR: 4, CODES: 5}
CHECK_AGAIN_S = "3"
REFUSED = (
    "That token is wrong, was used, or is older than 30 minutes. "
    "On this host, ./kv manage setup_token prints a new one."
)


class TokenForm(forms.Form):
    """The one-time token from the terminal."""

    token = forms.CharField(
        label="Set-up token",
        max_length=100,
        help_text="Four groups of five. The start printed it; ./kv manage setup_token prints a new one.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "spellcheck": "false", "autofocus": True}
        ),
    )


class PersonForm(forms.Form):
    """The first administrator. Passwords have a length and no recipe."""

    name = forms.CharField(max_length=120, widget=forms.TextInput(attrs={"autocomplete": "name"}))
    email = forms.EmailField(
        label="E-mail", widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )
    username = forms.CharField(
        label="User name",
        max_length=63,
        help_text="Small letters, digits, dots, dashes, underscores.",
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none"}),
    )
    password = forms.CharField(
        max_length=4096,
        strip=False,
        help_text="At least 12 characters, and not a common password.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean_username(self) -> str:
        """Return the stored form of the name. Raises ValidationError."""
        try:
            return names.username(self.cleaned_data["username"])
        except names.BadName as error:
            raise ValidationError(str(error)) from error


@gates.setup_only
@sensitive_post_parameters("password", "token")
@require_http_methods(["GET", "POST"])
def wizard(request: HttpRequest) -> HttpResponse:
    """Show the step that is due, or take what it asked for."""
    step = _due(request)
    if request.method == "GET" or request.POST.get("step") != step:
        return _show(request, step)
    return _TAKERS[step](request)


def _due(request: HttpRequest) -> str:
    """Return the step that this browser has reached; the token opened it, nothing else does."""
    if RIGHT not in request.session:
        return TOKEN
    if CHECKED not in request.session:
        return CHECKS
    if not request.user.is_authenticated:
        return PERSON
    return CODES if sessions.is_verified(request) else FACTOR


def _show(
    request: HttpRequest, step: str, form: forms.Form | None = None, *, status: int = 200
) -> HttpResponse:
    if step == CHECKS:
        return _show_checks(request)
    blank = {TOKEN: TokenForm, PERSON: PersonForm, FACTOR: CodeForm, CODES: RecoveryForm}
    context: dict[str, object] = {
        "form": form or blank[step](),
        "step": step,
        "place": STEPS[step],
        "number": request.session.get(signin.NUMBER_ASKED),
    }
    if step == FACTOR:
        context |= signin.enrolment(request)
    return render(request, f"keyvault/setup/{step}.html", context, status=status)


def _again(request: HttpRequest, step: str, form: forms.Form, sentence: str) -> HttpResponse:
    signin.say(form, sentence)
    return _show(request, step, form, status=422)


def _take_token(request: HttpRequest) -> HttpResponse:
    try:
        setup.spend_token(
            token=request.POST.get("token", ""), ip=origin.address(request), now=timezone.now()
        )
    except setup.BadToken:
        return _again(request, TOKEN, TokenForm(request.POST), REFUSED)
    except lockout.LockedOut as error:
        return _again(request, TOKEN, TokenForm(request.POST), signin.locked_sentence(error))
    sessions.cycle(request)
    request.session[RIGHT] = True
    request.session.pop(CHECKED, None)
    installation.probe()
    return redirect("setup")


def _show_checks(request: HttpRequest) -> HttpResponse:
    """Show how the parts of this installation are; look again while one is not known yet."""
    found = readiness.checks(now=timezone.now())
    lights = {check.light for check in found}
    context = {
        "checks": found,
        "is_red": readiness.Light.RED in lights,
        "may_go_on": lights == {readiness.Light.OK},
        "place": STEPS[CHECKS],
    }
    is_refused = request.method == "POST"
    response = render(
        request, "keyvault/setup/checks.html", context, status=409 if is_refused else 200
    )
    if not context["may_go_on"] and not is_refused:
        response["Refresh"] = CHECK_AGAIN_S
    return response


def _take_checks(request: HttpRequest) -> HttpResponse:
    """Go on when everything is well; what was shown a while ago does not count."""
    found = readiness.checks(now=timezone.now())
    if any(check.light != readiness.Light.OK for check in found):
        return _show_checks(request)
    request.session[CHECKED] = True
    return redirect("setup")


def _take_person(request: HttpRequest) -> HttpResponse:
    form = PersonForm(request.POST)
    if not form.is_valid():
        return _show(request, PERSON, form, status=422)
    now = timezone.now()
    try:
        user = setup.make_administrator(person=setup.FirstPerson(**form.cleaned_data), now=now)
    except ValidationError as error:
        form.add_error("password", error)
        return _show(request, PERSON, form, status=422)
    sessions.open_half(request, user, now=now)
    return redirect("setup")


def _take_factor(request: HttpRequest) -> HttpResponse:
    now, user = timezone.now(), sessions.person(request)
    form = CodeForm(request.POST)
    try:
        device, fresh = factors.confirm(
            user=user, code=request.POST.get("code", ""), ip=origin.address(request), now=now
        )
    except factors.BadCode:
        return _again(request, FACTOR, form, signin.WRONG_CODE)
    except factors.CodeUsed as error:
        return _again(request, FACTOR, form, str(error))
    except lockout.LockedOut as error:
        return _again(request, FACTOR, form, signin.locked_sentence(error))
    sessions.verify(request, user, device, now=now)
    return _show_codes(request, fresh)


def _take_codes(request: HttpRequest) -> HttpResponse:
    """Close set-up once a code comes back; or make new codes when the first were lost."""
    user, now = sessions.person(request), timezone.now()
    if "anew" in request.POST:
        return _show_codes(request, factors.issue_recovery(user=user, now=now))
    try:
        signin.prove_copied(request)
    except factors.BadCode:
        return _again(
            request, CODES, RecoveryForm(request.POST), "That is not the code that was asked for."
        )
    installation.finish_setup(user=user, now=now)
    del request.session[RIGHT], request.session[CHECKED]
    return redirect("welcome")


def _show_codes(request: HttpRequest, fresh: list[str]) -> HttpResponse:
    return signin.codes_page(request, fresh, action=reverse("setup"), template="setup")


_TAKERS: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    TOKEN: _take_token,
    CHECKS: _take_checks,
    PERSON: _take_person,
    FACTOR: _take_factor,
    CODES: _take_codes,
}

urlpatterns = [path("setup/", wizard, name="setup")]
