"""Rotate many keys: choose and ask, follow a batch by its numbers, and have no more keys begun."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from approvals import digests
from approvals import selectors as approvals
from approvals.policy.matching import NoPolicy
from keyvault.accounts import gates, sessions
from keyvault.actions import rotate_keys
from keyvault.inventory import exposures
from keyvault.inventory.selectors import Filters
from keyvault.rotation import batches, progress
from keyvault.web import live
from keyvault.web.keys import ReasonForm, asked
from keyvault.web.rotations import WhyForm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from keyvault.accounts.models import User
    from keyvault.inventory.models import Key

ASK, PAGE = "keyvault/rotations/rotate_many.html", "keyvault/rotations/batch.html"
UNPROCESSABLE = 422
SHOWN, ROWS = 20, 50
_RECENTLY = timedelta(minutes=5)
_TABS = {
    "": "All",
    "waiting": "Waiting",
    "running": "Running",
    "held": "Held",
    "done": "Done",
    "rolled_back": "Rolled back",
    "skipped": "Skipped",
}
# The bar fills from the left with what is over.
_COLOURS = {
    "done": "sv-ok",
    "rolled_back": "sv-warn",
    "skipped": "sv-mut",
    "held": "sv-bad",
    "running": "sv-info",
    "waiting": "sv-bg",
}


class ManyForm(ReasonForm):
    """Why many keys are rotated, on whose account, and which of them the person was shown."""

    trigger = forms.ChoiceField(
        label="What it is about",
        choices=[
            (one.value, _word)
            for one, _word in zip(
                rotate_keys.ASKED,
                ("A person wants new values", "An incident: end the old values soon"),
                strict=True,
            )
        ],
        initial="manual",
        help_text="An incident waits for dependents and for silence no longer than it must.",
    )
    shown = forms.CharField(max_length=64, widget=forms.HiddenInput)


@gates.signed_in
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Show what a rotation of the keys behind a list's filters would do, and ask for it."""
    person, now = sessions.person(request), timezone.now()
    filters = Filters.parse(request.GET.dict())
    keys = list(
        rotate_keys.of_filters(person, filters, now=now).select_related(
            "environment", "connection"
        )[: batches.MOST + 1]
    )
    digest = _digest(keys)
    form = ManyForm(request.POST or None, initial={"trigger": "manual", "shown": digest})
    context = {"nav": "keys", "now": now, "form": form, "filters": filters.active, "keys": keys}
    trigger = request.POST.get("trigger", "manual")
    try:
        action = rotate_keys.plan(
            person=person,
            keys=keys,
            trigger=trigger if trigger in rotate_keys.ASKED else "manual",
            reason=request.POST.get("reason", ""),
        )
        context |= _plan(person, action, keys, now)
    except (rotate_keys.NotRotatable, NoPolicy) as error:
        return render(request, ASK, context | {"refusal": str(error)}, status=_status(request))
    if request.method == "GET" or not form.is_valid():
        return render(request, ASK, context, status=_status(request))
    if form.cleaned_data["shown"] != digest:
        form.add_error(None, "Other keys fit these filters by now. Look at the plan again.")
        form.data = _shown(request, digest)
        return render(request, ASK, context, status=UNPROCESSABLE)
    ticket = form.cleaned_data["ticket"]
    return asked(
        request,
        ASK,
        context,
        lambda: rotate_keys.ask(person=person, action=action, ticket=ticket, now=now),
    )


@gates.signed_in
@require_GET
def batch(request: HttpRequest, batch_id: UUID) -> HttpResponse:
    """Show how far a batch is, what keeps it from going faster, and its keys."""
    person, now = sessions.person(request), timezone.now()
    # Read first: what changes while the page is made is then news to its first poll.
    topics = [f"{name}:{batch_id}" for name in ("batch", "batch-choices")]
    made_from = [live.version(person, topic, now=now) for topic in topics]
    found = progress.batch(person, batch_id)
    figures = progress.figures(batch_id)
    state = request.GET.get("state", "")
    state = state if state in _TABS else ""
    rows = progress.rows(person, batch_id, state=state)
    legend = [(css, _TABS[slug], getattr(figures, slug)) for slug, css in _COLOURS.items()]
    context = {
        "nav": "rotations",
        "now": now,
        "batch": found,
        "topic": topics[0],
        "at": made_from[0],
        "choices_topic": topics[1],
        "choices_at": made_from[1],
        "figures": figures,
        "recent": progress.ended_since(batch_id, now - _RECENTLY),
        "limits": progress.limits(batch_id),
        "skips": [(skip.label, count) for skip, count in progress.skips(batch_id).items()],
        "legend": legend,
        "shares": [(count, css) for css, _, count in legend],
        "label": ", ".join(f"{count} {word.lower()}" for _, word, count in legend),
        "is_job_held": progress.is_job_held(batch_id),
        "ended_at": progress.ended_at(batch_id) if figures.is_over else None,
        "may_stop": figures.waiting > 0 and progress.may_stop(person, found),
        "state": state,
        "tabs": [
            (slug, label, getattr(figures, slug) if slug else figures.total)
            for slug, label in _TABS.items()
        ],
        "page": Paginator(rows, ROWS).get_page(request.GET.get("page", "1")),
    }
    return render(request, PAGE, context)


@gates.signed_in
@require_POST
def stop(request: HttpRequest, batch_id: UUID) -> HttpResponse:
    """Have no more keys of a batch begun, for a reason that is kept."""
    form = WhyForm(request.POST)
    if not form.is_valid():
        progress.batch(sessions.person(request), batch_id)
        messages.error(request, "Say why: it stands in the ledger.")
        return redirect("rotation-batch", batch_id)
    try:
        count = progress.stop(
            person=sessions.person(request),
            batch_id=batch_id,
            reason=form.cleaned_data["reason"],
            now=timezone.now(),
        )
    except batches.NothingWaits as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"No more keys are begun; {count} are left out.")
    return redirect("rotation-batch", batch_id)


def _plan(
    person: User, action: rotate_keys.RotateKeys, keys: Sequence[Key], now: datetime
) -> dict[str, Any]:
    ranked = sorted(keys, key=lambda key: (-exposures.score(key), key.name))
    return {
        "plan": action.describe(),
        "preview": approvals.preview(action, person, now=now),
        "first": [(key, exposures.score(key)) for key in ranked[:SHOWN]],
    }


def _shown(request: HttpRequest, digest: str) -> QueryDict:
    """Return what was sent, with the choice that the person is shown now."""
    data = request.POST.copy()
    data["shown"] = digest
    return data


def _digest(keys: Sequence[Key]) -> str:
    """Return what names a choice of keys, so that nobody asks for others than were shown."""
    return digests.act_digest(kind="keys", ids=sorted(str(key.pk) for key in keys))


def _status(request: HttpRequest) -> int:
    return UNPROCESSABLE if request.method == "POST" else 200
