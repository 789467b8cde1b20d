"""Search for the palette: pages, keys, agents, requests and people, as far as this person may see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from approvals import selectors as approvals
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as accounts
from keyvault.agents import selectors as agents
from keyvault.inventory import selectors as inventory
from keyvault.web import shell, vocabulary

if TYPE_CHECKING:
    from keyvault.accounts.models import User

MOST = 6
LONGEST = 100


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: where it leads, its icon, its name and a few words about it."""

    group: str
    icon: str
    title: str
    about: str
    href: str


@gates.signed_in
@require_GET
def search(request: HttpRequest) -> HttpResponse:
    """Return results; a fragment for the palette, a page for everybody else."""
    person = sessions.person(request)
    text = request.GET.get("q", "").strip()[:LONGEST]
    found = list(hits(person, text, frame=shell.Shell(request)))
    part = "_results" if "HX-Request" in request.headers else "search"
    return render(request, f"keyvault/search/{part}.html", {"hits": found, "text": text})


def hits(person: User, text: str, *, frame: shell.Shell) -> Iterator[Hit]:
    """Yield what matches, what needs the person first; without text, that and the pages."""
    folded = text.casefold()
    yield from _requests(person, folded)
    if text:
        yield from _keys(person, text)
        yield from _agents(person, text)
        yield from _people(folded)
    yield from _pages(frame, folded)


def _requests(person: User, folded: str) -> Iterator[Hit]:
    waiting = [row.request for row in approvals.queue(person, now=timezone.now())]
    for group, rows in (("Needs you", waiting), ("My requests", approvals.mine(person)[:50])):
        matching = [row for row in rows if folded in f"{row} {row.plan['title']}".casefold()]
        for row in matching[:MOST] if folded or group == "Needs you" else ():
            state = vocabulary.word("request", row.state).word
            about = f"{row} · {state}"
            yield Hit(group, "inbox", row.plan["title"], about, reverse("request", args=[row.pk]))


def _keys(person: User, text: str) -> Iterator[Hit]:
    page = inventory.keys_for(person, inventory.Filters(q=text), now=timezone.now())
    for key in page.keys[:MOST]:
        state = vocabulary.word("key", key.state).word
        yield Hit(
            "Keys", "key", key.name, f"{state} · {key.environment}", reverse("key", args=[key.name])
        )


def _agents(person: User, text: str) -> Iterator[Hit]:
    page = agents.agents_for(person, agents.Filters(q=text), now=timezone.now())
    for row in page.rows[:MOST]:
        state = vocabulary.word("agent", row.agent.state).word
        about = f"{state} · {row.agent.team.team}"
        href = reverse("agent", args=[row.agent.name])
        yield Hit("Agents", "bot", row.agent.name, about, href)


def _people(folded: str) -> Iterator[Hit]:
    matching = [
        found
        for found in accounts.people()
        if folded in f"{found.name} {found.username}".casefold()
    ]
    for found in matching[:MOST]:
        yield Hit(
            "People", "people", str(found), found.username, reverse("person", args=[found.pk])
        )


def _pages(frame: shell.Shell, folded: str) -> Iterator[Hit]:
    entries = [entry for _, group in frame.groups for entry in group]
    places = [(entry.icon, entry.label, entry.href) for entry in entries]
    places += [
        ("plus", "Request a key…", reverse("request-new")),
        ("plus", "Register an agent…", reverse("agent-new")),
        ("lock", "Your account", reverse("account")),
    ]
    for icon, label, href in places:
        if folded in label.casefold():
            yield Hit("Go to", icon, label, "", href)
