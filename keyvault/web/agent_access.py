"""Ask that an agent may use a key, from the agent or from the key, or that it joins a team."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from approvals import ports, services
from approvals import selectors as approvals
from approvals.policy.matching import NoPolicy
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as accounts
from keyvault.actions import about_keys, grant_access, join_agent, new_grant
from keyvault.agents import access as agents
from keyvault.agents import selectors
from keyvault.inventory import access as keys
from keyvault.inventory import selectors as inventory

if TYPE_CHECKING:
    from keyvault.accounts.models import User

ASK, JOIN = "keyvault/agents/ask.html", "keyvault/agents/join.html"
UNPROCESSABLE = 422
MOST_DAYS = 365
TEAM = "team:"


class AccessForm(forms.Form):
    """What an agent is to use, for how long, and why."""

    what = forms.ChoiceField()
    days = forms.IntegerField(
        label="For … days", min_value=1, max_value=MOST_DAYS, initial=new_grant.USUAL_DAYS
    )
    reason = forms.CharField(
        max_length=4000, widget=forms.Textarea(attrs={"rows": 3}), help_text="Approvers read this."
    )
    ticket = forms.CharField(required=False, max_length=120)

    def __init__(self, *args: object, label: str, choices: list[Any], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Handed through as they come.
        what = self.fields["what"]
        what.label = label
        if isinstance(what, forms.ChoiceField):
            what.choices = choices


class JoinForm(forms.Form):
    """Which team an agent is to join, and why."""

    team = forms.ChoiceField()
    reason = AccessForm.base_fields["reason"]
    ticket = AccessForm.base_fields["ticket"]

    def __init__(self, *args: object, choices: list[tuple[str, str]], **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Handed through as they come.
        team = self.fields["team"]
        if isinstance(team, forms.ChoiceField):
            team.choices = choices


@gates.signed_in
@require_http_methods(["GET", "POST"])
def for_agent(request: HttpRequest, name: str) -> HttpResponse:
    """Ask that this agent may use one of the keys that the person sees."""
    person, now = sessions.person(request), timezone.now()
    agent = agents.access_agent(person, name, "manage")
    rows = inventory.fetched(person)
    choices = [(key.name, f"{key.name} ({key.environment.title})") for key in rows]
    form = AccessForm(
        request.POST or None,
        label="Key",
        choices=choices,
        initial={"what": request.GET.get("key", "")},
    )
    context = {"nav": "agents", "agent": agent, "form": form, "choices": choices, "now": now}
    return _answer(request, context, person, lambda given: {"agent": name, "key": given["what"]})


@gates.signed_in
@require_http_methods(["GET", "POST"])
def for_key(request: HttpRequest, name: str) -> HttpResponse:
    """Ask that one of the agents that the person sees, or a team's agents, may use this key."""
    person, now = sessions.person(request), timezone.now()
    key = keys.access_key(person, name, "view")
    is_keeper = "manage" in keys.permissions(person, key)
    choices = _holders(person, is_keeper=is_keeper)
    form = AccessForm(request.POST or None, label="Agent", choices=choices)
    context = {"nav": "keys", "key": key, "form": form, "choices": choices, "now": now}
    return _answer(request, context, person, lambda given: _holder(given["what"]) | {"key": name})


@gates.signed_in
@require_http_methods(["GET", "POST"])
def join(request: HttpRequest, name: str) -> HttpResponse:
    """Ask that this agent joins a team, so that what the team's agents may use reaches it."""
    person, now = sessions.person(request), timezone.now()
    agent = agents.access_agent(person, name, "manage")
    taken = set(selectors.groups_of(agent).values_list("group_id", flat=True))
    choices = [
        (team.slug, team.title) for team in accounts.teams("team") if team.group_id not in taken
    ]
    form = JoinForm(request.POST or None, choices=choices)
    context = {"nav": "agents", "agent": agent, "form": form, "choices": choices, "now": now}
    if request.method == "POST" and form.is_valid():
        asked = _asked(
            form,
            lambda: join_agent.ask(person=person, agent=name, now=now, **form.cleaned_data),
        )
        if asked is not None:
            return asked
    return render(request, JOIN, context, status=UNPROCESSABLE if form.errors else 200)


def _answer(
    request: HttpRequest,
    context: dict[str, Any],
    person: User,
    named: Callable[[dict[str, Any]], dict[str, str]],
) -> HttpResponse:
    """Send what was asked, or show the form with who would decide about it."""
    form, now = context["form"], context["now"]
    if request.method == "POST" and form.is_valid() and "send" in request.POST:
        given = {name: form.cleaned_data[name] for name in ("days", "reason", "ticket")}
        given |= named(form.cleaned_data)
        asked = _asked(form, lambda: grant_access.ask(person=person, now=now, **given))
        if asked is not None:
            return asked
    what = form["what"].value() or _first(context["choices"])
    wanted = named({"what": what}) if what else {}
    preview = _preview(person, wanted, days=form["days"].value(), now=now)
    is_sent = "send" in request.POST
    status = UNPROCESSABLE if is_sent and form.errors else 200
    return render(
        request, ASK, context | {"preview": preview, "show_errors": is_sent}, status=status
    )


def _asked(form: forms.Form, ask: Callable[[], Any]) -> HttpResponse | None:
    """Ask, and lead to the request; on a fault note it on the form and return nothing."""
    try:
        return redirect("request", ask().pk)
    except about_keys.AlreadyAsked as error:
        return redirect("request", error.request_id)
    except new_grant.TooLong as error:
        form.add_error("days", str(error))
    except services.BadText as error:
        form.add_error(error.field if error.field in form.fields else None, error.sentence)
    except (new_grant.NotGrantable, join_agent.MemberAlready, NoPolicy, services.Denied) as error:
        form.add_error(None, str(error))
    return None


def _preview(person: User, wanted: dict[str, str], *, days: object, now: datetime) -> Any:  # noqa: ANN401
    """Return who would decide and how risky it is, as far as the form says it."""
    try:
        action = grant_access.plan(person=person, days=int(str(days)), now=now, **wanted)
        return approvals.preview(action, person, now=now)
    except (ports.NotVisible, new_grant.NotGrantable, ValueError, TypeError):
        return None


def _first(choices: list[Any]) -> str:
    """Return the value that the browser would send for an untouched list."""
    for value, label in choices:
        inner = label if isinstance(label, list) else [(value, label)]
        if inner:
            return str(inner[0][0])
    return ""


def _holders(person: User, *, is_keeper: bool) -> list[Any]:
    """Return whom a person can name: agents, and teams whose agents are meant."""
    found = selectors.askable(person, is_keeper=is_keeper)
    singles = [(agent.name, f"{agent.name} ({agent.title})") for agent in found]
    teams = accounts.teams("team") if is_keeper else accounts.teams_of(person).filter(kind="team")
    groups = [(f"{TEAM}{team.slug}", f"Every agent of {team.title}") for team in teams]
    return [("Agents", singles), ("Teams", groups)] if singles else [("Teams", groups)]


def _holder(text: str) -> dict[str, str]:
    if text.startswith(TEAM):
        return {"team": text.removeprefix(TEAM)}
    return {"agent": text}
