"""The queue of an approver, and what a person has asked for."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from approvals import selectors
from approvals.gates import SIGNED_IN, gated
from approvals.views.people import person


@gated(SIGNED_IN)
@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    """Show what waits for this person, worst first, and what they decided last."""
    now, reader = timezone.now(), person(request)
    context = {
        "nav": "inbox",
        "now": now,
        "waiting": selectors.queue(reader, now=now),
        "decided": selectors.decided(reader),
        "oldest_at": selectors.oldest_pending_at(),
    }
    return render(request, "approvals/queue.html", context)


@gated(SIGNED_IN)
@require_GET
def mine(request: HttpRequest) -> HttpResponse:
    """Show what this person asked for: what needs them first, then newest first."""
    now, reader = timezone.now(), person(request)
    page = selectors.mine_page(reader, before=_number(request.GET.get("before", "")))
    context = {"nav": "mine", "now": now, "page": page, "ask_url": _ask_url()}
    return render(request, "approvals/mine.html", context)


def _ask_url() -> str:
    """Return the host's form to ask for something, or nothing where it has none."""
    try:
        return reverse("request-new")
    except NoReverseMatch:
        return ""


def _number(text: str) -> int | None:
    """Return a cursor, or None for one that is no number: then the list starts at the top."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None  # noqa: PLR2004
