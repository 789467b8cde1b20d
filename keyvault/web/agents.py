"""Agents: the list, one agent in its sections, registering one and describing it anew."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from keyvault.accounts import gates, sessions
from keyvault.agents import access, registrations, selectors
from keyvault.agents import services as agents
from keyvault.agents.selectors import Filters
from keyvault.inventory import naming
from keyvault.web import agent_page
from keyvault.web.lists import Frame

LIST = Frame(
    "agents",
    "agent",
    "agents",
    chips=(
        ("all", "All", ""),
        ("mine", "Mine", "owner=me"),
        ("active", "Active", "state=active"),
        ("suspended", "Suspended", "state=suspended"),
        ("outside", "Read outside text", "input=outside"),
        ("problem", "With a problem", "problem=any"),
    ),
)
UNPROCESSABLE = 422
NEW, EDIT = "keyvault/agents/new.html", "keyvault/agents/edit.html"
OUTSIDE_HELP = "Mail, web pages, tickets: what it reads may try to steer it. Approvers see this."


class AgentForm(forms.Form):
    """What is said of an agent when it is registered."""

    name = forms.CharField(
        max_length=naming.NAME_MAX * 2,
        help_text="Small letters, digits and hyphens. It never changes and is never used again.",
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false"}),
    )
    title = forms.CharField(
        max_length=120, required=False, help_text="What people call it. Empty: the name."
    )
    team = forms.ChoiceField(help_text="The team that runs it. Your team can see it.")
    backup_owner = forms.ChoiceField(
        required=False, label="Backup owner", help_text="Answers for it when you cannot."
    )
    purpose = forms.CharField(
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="What it does, and for whom.",
    )
    reads_outside_text = forms.BooleanField(
        required=False, initial=True, label="It reads text from outside", help_text=OUTSIDE_HELP
    )

    def __init__(self, *args: object, person: Any, **kwargs: object) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Handed through as they come.
        teams = [(team.slug, team.title) for team in registrations.teams(person)]
        others = [(str(other.pk), str(other)) for other in registrations.backups(person)]
        for name, choices in (("team", teams), ("backup_owner", [("", "Nobody"), *others])):
            field = self.fields[name]
            if isinstance(field, forms.ChoiceField):
                field.choices = choices

    def clean_name(self) -> str:
        """Return the name in its one form. Raises ValidationError."""
        try:
            return naming.key_name(self.cleaned_data["name"])
        except naming.BadName as error:
            raise forms.ValidationError(str(error)) from error

    def clean_backup_owner(self) -> UUID | None:
        """Return the id of the person who stands in, if one is named."""
        chosen = self.cleaned_data["backup_owner"]
        return UUID(chosen) if chosen else None


class DescriptionForm(forms.Form):
    """What can be said anew of an agent."""

    title = forms.CharField(max_length=120)
    purpose = AgentForm.base_fields["purpose"]
    reads_outside_text = forms.BooleanField(
        required=False, label="It reads text from outside", help_text=OUTSIDE_HELP
    )


@gates.signed_in
@require_GET
def agents_list(request: HttpRequest) -> HttpResponse:
    """List the agents that this person may see, with filters, chips and keyset pages."""
    person, now = sessions.person(request), timezone.now()
    filters = Filters.parse(request.GET.dict())
    page = selectors.agents_for(
        person,
        filters,
        now=now,
        after=request.GET.get("after", ""),
        before=request.GET.get("before", ""),
    )
    counts = selectors.counts(person, now=now)
    context = {
        "nav": "agents",
        "now": now,
        "filters": filters,
        "rows": page.rows,
        **LIST.around(filters, page, counts),
        "is_first_use": not counts["all"],
    }
    return render(request, "keyvault/agents/agents.html", context)


@gates.signed_in
@require_GET
def agent(request: HttpRequest, name: str, tab: str = agent_page.OVERVIEW) -> HttpResponse:
    """Show one section of an agent."""
    context = agent_page.page(sessions.person(request), name, tab=tab, now=timezone.now())
    return render(request, f"keyvault/agents/{tab}.html", context)


@gates.signed_in
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Register an agent; it may do nothing until an approval lets it."""
    person = sessions.person(request)
    form = AgentForm(request.POST or None, person=person)
    if request.method == "POST" and form.is_valid():
        try:
            made = registrations.register(person=person, now=timezone.now(), **form.cleaned_data)
        except agents.NameTaken as error:
            form.add_error("name", str(error))
        except registrations.BadRegistration as error:
            for field, sentence in error.errors.items():
                form.add_error(field, sentence)
        else:
            messages.success(request, f"{made.name} is registered. It may use no key yet.")
            return redirect("agent", made.name)
    context = {"nav": "agents", "form": form, "teams": registrations.teams(person)}
    return render(request, NEW, context, status=UNPROCESSABLE if form.errors else 200)


@gates.signed_in
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, name: str) -> HttpResponse:
    """Change title, purpose and the mark of an agent; its rights stay."""
    person = sessions.person(request)
    found = access.access_agent(person, name, "manage")
    said = {"title": found.title, "purpose": found.purpose}
    form = DescriptionForm(request.POST or None, initial=said)
    if found.reads_outside_text:
        del form.fields["reads_outside_text"]
    if request.method == "POST" and form.is_valid():
        wanted = {"reads_outside_text": True} | form.cleaned_data
        try:
            registrations.describe(person=person, name=name, now=timezone.now(), **wanted)
            return redirect("agent", name)
        except agents.Retired as error:
            form.add_error(None, str(error))
    context = {"nav": "agents", "agent": found, "form": form}
    return render(request, EDIT, context, status=UNPROCESSABLE if form.errors else 200)
