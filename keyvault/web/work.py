"""What needs one person now, worst first: the work list of the overview."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.urls import reverse

from approvals import selectors as approvals
from keyvault.inventory import selectors as inventory
from keyvault.web import lookout, moments
from keyvault.web.geometry import RISK_CUTS

if TYPE_CHECKING:
    from uuid import UUID

    from keyvault.accounts.models import User
    from keyvault.web.lookout import Sight

SHOWN = 8
URGENT = timedelta(days=7)


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
    """Return what waits for this person: rotations, findings, decisions, own requests, keys."""
    own = lookout.decisions(person)
    return [
        *_rotations(own, now),
        *_findings(person, {sight.finding.pk for sight in own}, now),
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


def _rotations(own: Iterable[Sight], now: datetime) -> Iterator[Item]:
    for sight in own:
        yield Item(
            css="bad",
            icon="rotate",
            title=f"The rotation of {sight.finding.subject_label} needs a person",
            about=sight.finding.sentence,
            href=sight.href,
            button="Decide",
            time=moments.span(now - sight.finding.opened_at),
            hint="open",
        )


def _findings(person: User, told: Container[UUID], now: datetime) -> Iterator[Item]:
    """Yield what is open, for whose work it is to look. `told`: what stands above already."""
    for sight in lookout.sights(person, SHOWN):
        finding = sight.finding
        if finding.pk in told:
            continue
        yield Item(
            css="bad",
            icon="alert",
            title=f"{finding.get_kind_display()}: {finding.subject_label}",
            about=finding.sentence,
            href=sight.href or f"{reverse('system')}#findings",
            button="Open",
            time=moments.span(now - finding.opened_at),
            hint="open",
        )
