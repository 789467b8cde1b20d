"""What needs one person now, worst first: the work list of the overview."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.urls import reverse

from approvals import selectors as approvals
from keyvault.accounts import selectors as accounts
from keyvault.findings import selectors as findings
from keyvault.inventory import selectors as inventory
from keyvault.web import moments
from keyvault.web.geometry import RISK_CUTS

if TYPE_CHECKING:
    from keyvault.accounts.models import User

SHOWN = 8
URGENT = timedelta(days=7)
WATCHERS = ("administrators", "responders", "auditors")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to do: a glyph, a sentence that opens it, what it is about, and by when."""

    css: str
    icon: str
    title: str
    about: str
    href: str
    button: str
    time: str
    hint: str


def needs(person: User, *, now: datetime) -> list[Item]:
    """Return what waits for this person: decisions, own requests, keys running out, findings."""
    return [
        *_findings(person, now),
        *_decisions(person, now),
        *_returned(person, now),
        *_expiring(person, now),
    ]


def _decisions(person: User, now: datetime) -> Iterator[Item]:
    for row in approvals.queue(person, now=now):
        request = row.request
        risky = request.risk_score >= RISK_CUTS[0]
        yield Item(
            css="warn" if risky else "info",
            icon="inbox",
            title=request.plan["title"],
            about=f"{request.requester_label} · {request} · risk {request.risk_score}"
            f" · {row.have} of {row.need} approvals",
            href=reverse("request", args=[request.pk]),
            button="Review",
            time=moments.span(now - request.created_at),
            hint=f"lapses {moments.relative(request.expires_at, now=now)}",
        )


def _returned(person: User, now: datetime) -> Iterator[Item]:
    for request in approvals.mine(person).filter(state="changes_asked"):
        yield Item(
            css="warn",
            icon="msg",
            title=f"Changes asked: {request.plan['title']}",
            about=f"{request} · it waits for your revision",
            href=reverse("request", args=[request.pk]),
            button="Revise",
            time=moments.span(now - request.revised_at),
            hint=f"lapses {moments.relative(request.expires_at, now=now)}",
        )


def _expiring(person: User, now: datetime) -> Iterator[Item]:
    filters = inventory.Filters(owner="me", due="expiring", sort="expires")
    for key in inventory.keys_for(person, filters, now=now).keys:
        if key.expires_at:
            yield Item(
                css="warn" if key.expires_at - now <= URGENT else "",
                icon="key",
                title=f"{key.name} expires",
                about=f"{key.environment} · {key.provider} · it is not renewed by itself",
                href=reverse("key", args=[key.name]),
                button="Open",
                time=moments.span(key.expires_at - now),
                hint="left",
            )


def _findings(person: User, now: datetime) -> Iterator[Item]:
    if not accounts.has_role(person, *WATCHERS):
        return
    for finding in findings.open_findings(SHOWN):
        yield Item(
            css="bad",
            icon="alert",
            title=f"{finding.get_kind_display()}: {finding.subject_label}",
            about=finding.sentence,
            href=f"{reverse('system')}#findings",
            button="Open",
            time=moments.span(now - finding.opened_at),
            hint="open",
        )
