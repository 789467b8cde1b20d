"""Invite people, hand their code over once, and take invitations up."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from approvals import services as approvals
from keyvault.accounts import (
    gates,
    invitations,
    lockout,
    names,
    origin,
    selectors,
    sessions,
)
from keyvault.actions import invite_person
from keyvault.web.signin import locked_sentence

ADMINISTRATORS = "administrators"
WRONG = (
    "This link and code open nothing. Check the code; "
    "if it is older than 72 hours, ask whoever invited you for a new one."
)


class InviteForm(forms.Form):
    """Whom to invite, and what they will belong to."""

    name = forms.CharField(max_length=120)
    email = forms.EmailField(label="E-mail")
    username = forms.CharField(
        label="User name",
        max_length=63,
        help_text="Small letters, digits, dots, dashes, underscores.",
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false"}),
    )
    groups = forms.MultipleChoiceField(
        label="Teams and roles",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="What the person belongs to from the start. More can be asked for later.",
    )
    reason = forms.CharField(
        max_length=4000, widget=forms.Textarea, help_text="Approvers read this."
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Handed through as they come.
        self.fields["groups"].choices = [  # type: ignore[attr-defined]  # A MultipleChoiceField.
            (team.slug, f"{team.title} ({team.get_kind_display().lower()})")
            for team in selectors.teams()
        ]

    def clean_username(self) -> str:
        """Return the stored form of the name. Raises ValidationError."""
        try:
            return names.username(self.cleaned_data["username"])
        except names.BadName as error:
            raise ValidationError(str(error)) from error


class FirstInviteForm(InviteForm):
    """The second administrator: nobody is there yet to approve, so no reason is asked."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["groups"], self.fields["reason"]


class AcceptForm(forms.Form):
    """The code, and the password of the account to be."""

    code = forms.CharField(
        label="Code",
        max_length=100,
        help_text="Four groups of five, from whoever invited you.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    password = forms.CharField(
        label="Choose a password",
        max_length=4096,
        strip=False,
        help_text="At least 12 characters, and not a common password.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class EnrolForm(forms.Form):
    """The code that opens enrolment after an approved reset."""

    code = AcceptForm.base_fields["code"]


@gates.role_required(ADMINISTRATORS)
@require_http_methods(["GET", "POST"])
def invite_new(request: HttpRequest) -> HttpResponse:
    """Ask to invite somebody; others approve it first."""
    form = InviteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            asked = invite_person.ask(
                person=sessions.person(request), **form.cleaned_data, now=timezone.now()
            )
        except invitations.NameTaken as error:
            form.add_error("username", str(error))
        except approvals.BadText as error:
            form.add_error("reason", error.sentence)
        else:
            return redirect("request", asked.pk)
    status = 422 if form.errors else 200
    return render(
        request, "keyvault/people/invite.html", {"form": form, "nav": "people"}, status=status
    )


@gates.role_required(ADMINISTRATORS)
@require_http_methods(["GET", "POST"])
def welcome(request: HttpRequest) -> HttpResponse:
    """After set-up: invite the second administrator, or go on in solo mode."""
    if not selectors.solo():
        return redirect("overview")
    form = FirstInviteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        person, now = sessions.person(request), timezone.now()
        try:
            invited = invitations.invite_second(**form.cleaned_data, invited_by=person, now=now)
        except invitations.NameTaken as error:
            form.add_error("username", str(error))
        else:
            return _code_page(request, invited.pk)
    waiting = selectors.open_invitations()
    return render(
        request,
        "keyvault/setup/welcome.html",
        {"form": form, "waiting": waiting, "nav": "people"},
        status=422 if form.errors else 200,
    )


@gates.role_required(ADMINISTRATORS)
@require_POST
def show_code(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    """Make a code and show it once, to whoever asked for the invitation."""
    return _code_page(request, invitation_id)


def _code_page(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    row, code = invitations.show_code(
        invitation_id=invitation_id, person=sessions.person(request), now=timezone.now()
    )
    door = "enrol-again" if row.purpose == "enrol" else "invite"
    link = settings.PUBLIC_URL + reverse(door, args=[row.pk])
    context = {"invitation": row, "code": code, "link": link, "nav": "people"}
    return render(request, "keyvault/people/invitation_code.html", context)


@gates.role_required(ADMINISTRATORS)
@require_POST
def withdraw(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    """Close an invitation that nobody has used."""
    invitations.withdraw(
        invitation_id=invitation_id, person=sessions.person(request), now=timezone.now()
    )
    return redirect("people")


@gates.visitor
@sensitive_post_parameters("code", "password")
@require_http_methods(["GET", "POST"])
def invite(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    """Take up an invitation: the code, then a password; the second factor comes next.

    The page is the same for an invitation that does not exist.
    """
    form = AcceptForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        now = timezone.now()
        try:
            user = invitations.accept(
                invitation_id=invitation_id,
                **form.cleaned_data,
                ip=origin.address(request),
                now=now,
            )
        except invitations.BadInvitation:
            form.add_error(None, WRONG)
        except lockout.LockedOut as error:
            form.add_error(None, locked_sentence(error))
        except ValidationError as error:
            form.add_error("password", error)
        else:
            sessions.open_half(request, user, now=now)
            return redirect("enrol")
    context = {"form": form, "invitation_id": invitation_id}
    status = 422 if form.errors else 200
    return render(request, "keyvault/accounts/invite.html", context, status=status)


@gates.visitor
@sensitive_post_parameters("code")
@require_http_methods(["GET", "POST"])
def enrol_again(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    """Take up the way to a new factor; signing in with the password comes next."""
    form = EnrolForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            invitations.accept_enrolment(
                invitation_id=invitation_id,
                code=form.cleaned_data["code"],
                ip=origin.address(request),
                now=timezone.now(),
            )
        except invitations.BadInvitation:
            form.add_error(None, WRONG)
        except lockout.LockedOut as error:
            form.add_error(None, locked_sentence(error))
        else:
            return redirect("login")
    context = {"form": form, "invitation_id": invitation_id}
    status = 422 if form.errors else 200
    return render(request, "keyvault/accounts/enrol_again.html", context, status=status)


@gates.role_required(ADMINISTRATORS)
@require_GET
def sent(request: HttpRequest) -> HttpResponse:
    """List open invitations."""
    context = {
        "invitations": selectors.open_invitations(),
        "person": sessions.person(request),
        "nav": "people",
    }
    return render(request, "keyvault/people/invitations.html", context)


urlpatterns = [
    path("welcome/", welcome, name="welcome"),
    path("people/invitations/", sent, name="invitations"),
    path("people/invitations/new/", invite_new, name="invite-new"),
    path("people/invitations/<uuid:invitation_id>/code/", show_code, name="invitation-code"),
    path("people/invitations/<uuid:invitation_id>/withdraw/", withdraw, name="invitation-withdraw"),
    path("invite/<uuid:invitation_id>/", invite, name="invite"),
    path("invite/<uuid:invitation_id>/factor/", enrol_again, name="enrol-again"),
]
