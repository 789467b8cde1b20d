"""Who uses a key: the list, the form that registers a dependent, and the end of a registration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from keyvault.accounts import gates, sessions
from keyvault.actions import name_dependent
from keyvault.agents import selectors as agents
from keyvault.audit.reads import selectors as reads
from keyvault.dependents import probes, selectors
from keyvault.inventory import access
from keyvault.usage import loaded
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from keyvault.accounts.models import User
    from keyvault.agents.models import Agent
    from keyvault.dependents.models import Dependent, Probe
    from keyvault.inventory.models import Key

FORM = "keyvault/keys/dependent.html"
UNPROCESSABLE = 422
MOST_WAVES, MOST_CACHE_S = 99, 2_592_000
LATELY = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Row:
    """One dependent of a key, and the newest that is known of it: a version, since when, how well."""

    dependent: Dependent
    is_seen: bool
    number: int | None = None
    at: datetime | None = None
    is_healthy: bool = True
    probe: Probe | None = None

    @property
    def can_be_asked(self) -> bool:
        """Say whether an answer over HTTP would count."""
        return self.dependent.health != "by_hand"


class DependentForm(forms.Form):
    """Who uses a key, and how it is known which version they have."""

    agent = forms.ChoiceField(
        required=False,
        help_text="Those that may use this key. Choose none for a place that people look after.",
    )
    name = forms.CharField(
        required=False,
        max_length=120,
        help_text="What people know it by. An agent goes by its own name.",
    )
    health = forms.ChoiceField(
        label="How it is known which version it has",
        widget=forms.RadioSelect,
        choices=selectors.ways,
    )
    wave = forms.IntegerField(
        min_value=0,
        max_value=MOST_WAVES,
        initial=0,
        help_text="In which step of a rollout it moves, 0 first. Whoever fetches the value moves in the last.",
    )
    cache_s = forms.IntegerField(
        label="Keeps a value for … seconds",
        min_value=0,
        max_value=MOST_CACHE_S,
        initial=0,
        help_text="How long it may go on with a version that it has fetched. Both versions work at least as long.",
    )

    def __init__(self, *args: Any, agents: list[Agent], **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        agent = self.fields["agent"]
        if isinstance(agent, forms.ChoiceField):
            known = [(one.name, f"{one.name} ({one.title})") for one in agents]
            agent.choices = [("", "None: people look after it"), *known]


@gates.signed_in
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest, name: str) -> HttpResponse:
    """Register one user of a key, so that rotations wait for it."""
    person, now = sessions.person(request), timezone.now()
    key = access.access_key(person, name, "rotate")
    form = DependentForm(
        request.POST or None, agents=name_dependent.candidates(person, key, now=now)
    )
    if request.method == "POST" and form.is_valid():
        try:
            made = name_dependent.register(person=person, key=name, now=now, **form.cleaned_data)
        except name_dependent.NotNameable as error:
            form.add_error(error.field or None, str(error))
        else:
            messages.success(request, f"The next rotation waits for {made.name}.")
            return redirect("key-dependents", name)
    context = {"nav": "keys", "key": key, "form": form, "now": now}
    return render(request, FORM, context, status=UNPROCESSABLE if form.errors else 200)


@gates.signed_in
@require_POST
def end(request: HttpRequest, name: str, dependent_id: UUID) -> HttpResponse:
    """End a registration; what it did stays readable."""
    person = sessions.person(request)
    try:
        ended = name_dependent.end(
            person=person, key=name, dependent_id=dependent_id, now=timezone.now()
        )
    except name_dependent.NotNameable as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"The next rotation does not wait for {ended.name}.")
    return redirect("key-dependents", name)


def rows(person: User, key: Key, *, now: datetime) -> list[Row]:
    """Return the registered dependents of a key, wave by wave, with what each was last seen with.

    `is_seen` says whether the person may follow a link to the agent.
    """
    found = selectors.of_key(key.pk)
    read = reads.last_of(key.pk, _agents(found, "reads"), since=now - LATELY)
    said = loaded.newest(key.pk, _agents(found, "reports"))
    names = agents.names_seen(person, _agents(found, "reads", "reports", "probed"))
    live = versions.by_ids([one.live_id for one in found if one.live_id])
    asked = probes.of_dependents([one.pk for one in found])
    rows = []
    for one in found:
        agent, probe = one.agent, asked.get(one.pk)
        is_seen = agent is not None and agent.name in names
        if there := live.get(one.live_id) if one.live_id else None:
            row = Row(one, is_seen=False, number=there.number, at=one.pushed_at)
        elif probe and one.health == "probed":
            row = Row(one, is_seen, probe.number, probe.named_at)
        elif agent and (report := said.get(agent.pk)):
            row = Row(one, is_seen, report.number, report.last_at, report.is_healthy)
        elif agent and (last := read.get(agent.pk)):
            row = Row(one, is_seen, last.number, last.at)
        else:
            row = Row(one, is_seen)
        rows.append(replace(row, probe=probe))
    return rows


def _agents(found: Sequence[Dependent], *ways: str) -> list[UUID]:
    return [one.agent_id for one in found if one.agent_id and one.health in ways]
