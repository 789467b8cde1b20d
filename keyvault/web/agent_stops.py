"""Acts that take something from an agent at once: each shows what ends, asks a code, says the effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from approvals import ports
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as accounts
from keyvault.agents import access, endings, memberships, selectors, stops
from keyvault.agents import services as agents

STOP = "keyvault/agents/stop.html"
UNPROCESSABLE = 422


class CauseForm(forms.Form):
    """Why an agent is stopped or let work again."""

    cause = forms.CharField(
        label="Reason",
        max_length=200,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="It stands in the ledger and on the agent's page.",
    )


@dataclass(frozen=True, slots=True)
class Act:
    """One act on an agent: its words, and what does it."""

    kind: str
    title: str
    sentence: str
    done: str
    effects: tuple[str, ...]
    run: Callable[..., stops.Result]


ACTS = {
    "suspend": Act(
        stops.SUSPEND,
        "Suspend",
        "Stop {name} now: its tokens open nothing, and it gets no new one.",
        "{name} is suspended.",
        (
            "Every token of it stops working at every gateway, within milliseconds.",
            "Its rights, secrets and memberships stay, and open nothing meanwhile.",
            "Its owner resumes what its owner has suspended.",
            "A responder or an administrator without a stake in it resumes what one has suspended.",
        ),
        stops.suspend,
    ),
    "resume": Act(
        stops.RESUME,
        "Resume",
        "Let {name} work again, with the rights it had.",
        "{name} works again.",
        ("Tokens that have not run out meanwhile work again.", "It can get new tokens."),
        stops.resume,
    ),
    "retire": Act(
        stops.RETIRE,
        "Retire",
        "Retire {name} for good. There is no way back.",
        "{name} is retired.",
        (
            "Its tokens, secrets, public keys, memberships and rights to keys end now.",
            "Its name is never used again. Its history stays.",
        ),
        stops.retire,
    ),
}


@gates.signed_in
@require_http_methods(["GET", "POST"])
def stop(request: HttpRequest, name: str, act: str) -> HttpResponse:
    """Suspend, resume or retire an agent after a fresh code."""
    person, now, chosen = sessions.person(request), timezone.now(), ACTS[act]
    agent = access.access_agent(person, name, stops.NEEDS[chosen.kind])
    form = CauseForm(request.POST or None)
    context = {"nav": "agents", "agent": agent, "act": chosen, "form": form, "now": now}
    if request.method == "GET" or not form.is_valid():
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, STOP, context, status=status)
    proof = ports.presence().ask(
        request,
        sentence=chosen.sentence.format(name=name),
        digest=stops.digest(chosen.kind, agent),
        title=f"{chosen.title} {name}",
    )
    if isinstance(proof, HttpResponse):
        return proof
    try:
        result = chosen.run(
            person=person, name=name, cause=form.cleaned_data["cause"], proof_id=proof.id, now=now
        )
    except (agents.Retired, stops.Contained, stops.NotStopped) as error:
        form.add_error(None, str(error))
        return render(request, STOP, context, status=UNPROCESSABLE)
    messages.success(request, f"{chosen.done.format(name=name)} {result.effect.sentence}")
    return redirect("agent", name)


@gates.signed_in
@require_POST
def end_grant(request: HttpRequest, grant_id: UUID) -> HttpResponse:
    """Take a key away from an agent or a team's agents after a fresh code."""
    person = sessions.person(request)
    found = endings.grant(person=person, grant_id=grant_id)
    holder = endings.holder(found)
    proof = ports.presence().ask(
        request,
        sentence=f"Take {found.key.name} away from {holder}, now.",
        digest=endings.grant_digest(found),
        title="End the access",
    )
    if isinstance(proof, HttpResponse):
        return proof
    effect = endings.end_grant(
        person=person, grant_id=grant_id, proof_id=proof.id, now=timezone.now()
    )
    said = f"{found.key.name} is taken away from {holder}. {effect.sentence}"
    messages.success(request, said)
    return redirect(_back(request, person, found))


@gates.signed_in
@require_POST
def leave(request: HttpRequest, name: str, team: str) -> HttpResponse:
    """Take an agent out of a team after a fresh code."""
    person = sessions.person(request)
    agent = access.access_agent(person, name, "manage")
    title = accounts.team_by_slug(team).title
    proof = ports.presence().ask(
        request,
        sentence=f"Take {name} out of {title}, now; what the team's agents may use, it no longer may.",
        digest=endings.leave_digest(agent, team),
        title="Leave the team",
    )
    if isinstance(proof, HttpResponse):
        return proof
    try:
        effect = endings.leave(
            person=person, name=name, team=team, proof_id=proof.id, now=timezone.now()
        )
    except memberships.NotMember as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{name} left {title}. {effect.sentence}")
    return redirect("agent", name)


def _back(request: HttpRequest, person: Any, found: Any) -> str:  # noqa: ANN401 - no tables here.
    """Return the agent's page for whoever came from there, else the key's."""
    is_from_agent = request.POST.get("at") == "agent" and found.agent
    if is_from_agent and selectors.names_seen(person, [found.agent_id]):
        return reverse("agent", args=[found.agent.name])
    return reverse("key-access", args=[found.key.name])
