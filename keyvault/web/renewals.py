"""The admin credential of a Connection: its age and history, asking for a new one, a held renewal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from approvals import selectors as approvals
from approvals.ports import NotVisible
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as people
from keyvault.actions import renew_connection
from keyvault.connections import renewals, selectors
from keyvault.web.keys import ReasonForm, asked

ASK = "keyvault/connections/renew.html"
ADMINISTRATORS = "administrators"
UNPROCESSABLE = 422


def section(row: Any, *, now: datetime) -> dict[str, Any]:  # noqa: ANN401 - views import no tables.
    """Return what the page of a Connection shows of its admin credential."""
    found = renewals.history(row.pk)
    days = timedelta(days=row.renew_days) if row.renew_days else None
    return {
        "can_renew": renewals.can_renew(row),
        "is_offered": renewals.is_offered(row.provider),
        "renewals": found,
        "renewal": next((one for one in found if one.is_open), None),
        "age_days": (now - row.credential_at).days if row.credential_at else None,
        "due_at": row.credential_at + days if days and row.credential_at else None,
    }


@gates.role_required(ADMINISTRATORS)
@require_http_methods(["GET", "POST"])
def renew(request: HttpRequest, slug: str) -> HttpResponse:
    """Show what a renewal would do and ask for it."""
    person, now = sessions.person(request), timezone.now()
    try:
        action = renew_connection.plan(person=person, slug=slug)
    except renewals.NotRenewable as error:
        messages.error(request, str(error))
        return redirect("connection", slug)
    form = ReasonForm(request.POST or None)
    context = {
        "nav": "connections",
        "now": now,
        "connection": selectors.get(slug),
        "form": form,
        "plan": action.describe(),
        "preview": approvals.preview(action, person, now=now),
    }
    if request.method == "GET" or not form.is_valid():
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, ASK, context, status=status)
    return asked(
        request,
        ASK,
        context,
        lambda: renew_connection.ask(person=person, slug=slug, now=now, **form.cleaned_data),
    )


@gates.role_required(ADMINISTRATORS)
@require_POST
def again(request: HttpRequest, slug: str) -> HttpResponse:
    """Have a held renewal go on."""
    return _decided(request, slug, renewals.try_again, "The renewal goes on.")


@gates.role_required(ADMINISTRATORS)
@require_POST
def stop(request: HttpRequest, slug: str) -> HttpResponse:
    """End a held renewal that has changed nothing."""
    return _decided(request, slug, renewals.stop, "Stopped. The credential stays as it was.")


def _decided(request: HttpRequest, slug: str, act: Callable[..., None], done: str) -> HttpResponse:
    actor, row = people.actor(sessions.person(request)), selectors.get(slug)
    try:
        act(connection_id=row.pk, actor=actor, now=timezone.now())
    except renewals.WrongMoment as error:
        messages.error(request, str(error))
    except NotVisible:
        messages.error(request, "There is no renewal to decide about any more.")
    else:
        messages.success(request, done)
    return redirect("connection", slug)


urlpatterns = [
    path("connections/<slug:slug>/renew/", renew, name="connection-renew"),
    path("connections/<slug:slug>/renewal/again/", again, name="renewal-again"),
    path("connections/<slug:slug>/renewal/stop/", stop, name="renewal-stop"),
]
