"""People, teams and roles: who belongs where, and asking that it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from approvals import services as approvals
from keyvault.accounts import gates, names, selectors, sessions
from keyvault.actions import change_membership, create_team, deactivate_person, reset_factor

DUTY = ("administrators", "auditors")
JOIN, LEAVE, RESET, DEACTIVATE = "join", "leave", "reset", "deactivate"


class ChangeForm(forms.Form):
    """What should change about a person, and why."""

    act = forms.ChoiceField(
        choices=[(JOIN, JOIN), (LEAVE, LEAVE), (RESET, RESET), (DEACTIVATE, DEACTIVATE)]
    )
    group = forms.SlugField(required=False, max_length=63)
    reason = forms.CharField(
        max_length=4000,
        widget=forms.Textarea,
        help_text="Approvers read this.",
    )


class TeamForm(forms.Form):
    """The team to make, and why."""

    name = forms.CharField(max_length=80, help_text="What people read: Payments.")
    slug = forms.CharField(
        label="Short name",
        max_length=63,
        help_text="Small letters, digits and dashes; it never changes: payments.",
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false"}),
    )
    reason = forms.CharField(
        max_length=4000, widget=forms.Textarea, help_text="Approvers read this."
    )


@gates.signed_in
@require_GET
def people(request: HttpRequest) -> HttpResponse:
    """List everybody with teams, roles and, for those on duty, the state of the second factor."""
    person = sessions.person(request)
    context = {
        "people": selectors.people(),
        "teams": selectors.teams_with_members(),
        "sees_factors": selectors.has_role(person, *DUTY),
        "may_invite": selectors.has_role(person, "administrators"),
        "solo": selectors.solo(),
        "nav": "people",
    }
    return render(request, "keyvault/people/people.html", context)


@gates.signed_in
@require_GET
def person(request: HttpRequest, person_id: UUID) -> HttpResponse:
    """Show one person: rights as sentences, history, and what this reader may ask for."""
    return _show(request, person_id, ChangeForm())


@gates.signed_in
@require_POST
def change(request: HttpRequest, person_id: UUID) -> HttpResponse:
    """Put a change about a person up for approval."""
    form = ChangeForm(request.POST)
    if not form.is_valid():
        return _show(request, person_id, form, status=422)
    asker = _ASKERS[form.cleaned_data["act"]]
    try:
        asked = asker(
            person=sessions.person(request),
            subject_id=person_id,
            reason=form.cleaned_data["reason"],
            now=timezone.now(),
            **_group(form.cleaned_data),
        )
    except approvals.BadText as error:
        form.add_error("reason", error.sentence)
    except change_membership.NothingToDo as error:
        form.add_error(None, str(error))
    else:
        return redirect("request", asked.pk)
    return _show(request, person_id, form, status=422)


_ASKERS: dict[str, Callable[..., Any]] = {
    JOIN: change_membership.ask,
    LEAVE: change_membership.ask,
    RESET: reset_factor.ask,
    DEACTIVATE: deactivate_person.ask,
}


def _group(data: dict[str, str]) -> dict[str, str]:
    if data["act"] not in {JOIN, LEAVE}:
        return {}
    return {"group": data["group"], "verb": data["act"]}


def _show(
    request: HttpRequest, person_id: UUID, form: forms.Form, *, status: int = 200
) -> HttpResponse:
    reader, shown = sessions.person(request), selectors.user(person_id)
    is_admin = selectors.has_role(reader, "administrators")
    member_of = list(selectors.teams_of(shown))
    context = {
        "form": form,
        "shown": shown,
        "history": selectors.history(shown),
        "member_of": member_of,
        "may_join": [team for team in selectors.teams() if team not in member_of],
        "may_ask": shown.is_active and (is_admin or reader == shown),
        "may_administer": shown.is_active and is_admin,
        "sees_factors": reader == shown or selectors.has_role(reader, *DUTY),
        "is_enrolled": selectors.is_enrolled(shown),
        "barred": _bar(shown),
        "nav": "people",
    }
    return render(request, "keyvault/people/person.html", context, status=status)


@gates.role_required("administrators")
@require_http_methods(["GET", "POST"])
def new_team(request: HttpRequest) -> HttpResponse:
    """Ask for a team; whoever asks is its first member."""
    form = TeamForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            asked = create_team.ask(
                person=sessions.person(request), now=timezone.now(), **form.cleaned_data
            )
            return redirect("request", asked.pk)
        except (names.BadName, create_team.TeamTaken) as error:
            form.add_error("slug", str(error))
        except approvals.BadText as error:
            form.add_error("reason", error.sentence)
    return render(
        request,
        "keyvault/people/new_team.html",
        {"form": form, "nav": "people"},
        status=422 if form.errors else 200,
    )


def _bar(shown: Any) -> object:  # noqa: ANN401  (Views do not import tables, not even for a name.)
    until = shown.barred_until
    return until if until and until > timezone.now() else None


urlpatterns = [
    path("people/", people, name="people"),
    path("people/teams/new/", new_team, name="team-new"),
    path("people/<uuid:person_id>/", person, name="person"),
    path("people/<uuid:person_id>/change/", change, name="person-change"),
]
