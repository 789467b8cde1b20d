"""Ask to adopt an existing key: choose where it is valid, fill one form, paste its value."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from approvals import services
from approvals.policy.matching import NoPolicy
from approvals.ports import NotVisible
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as people
from keyvault.actions import adopt_keys, new_adoption, new_key
from keyvault.connections import selectors as connections
from keyvault.connections import shadows
from keyvault.web.adopt_forms import AdoptForm

if TYPE_CHECKING:
    from keyvault.accounts.models import User

FORM, CHOOSE = "keyvault/keys/adopt.html", "keyvault/keys/choose.html"
READERS = ("administrators", "auditors", "responders")
UNPROCESSABLE = 422
_TWICE = {
    new_adoption.KNOWN: "This value is in the inventory already: {of}.",
    new_adoption.ASKED: "This value waits for a decision already: {of}.",
}
_HIDDEN = "a key that you may not see"


@gates.signed_in
@require_http_methods(["GET", "POST"])
@sensitive_post_parameters()
@sensitive_variables()
def adopt(request: HttpRequest) -> HttpResponse:
    """Show where a key can be valid, then the form; on POST ask for the adoption."""
    person, now = sessions.person(request), timezone.now()
    given = request.POST if request.method == "POST" else request.GET
    shadow = _shadow(person, given.get("shadow", ""))
    slug = shadow.connection.slug if shadow else given.get("connection", "")
    if not slug:
        return _choose(request, person)
    form = AdoptForm(request.POST or None, person=person, connection=_connection(person, slug))
    if request.method == "GET":
        return _page(request, form, shadow, now=now)
    if form.is_valid():
        asked = _ask(form, shadow, now=now)
        if asked is not None:
            return redirect("request", asked)
    return _page(request, form, shadow, now=now, status=UNPROCESSABLE)


def _shadow(person: User, text: str) -> Any:  # noqa: ANN401 - views do not import tables.
    """Return the shadow key that a button named, or None. Raises NotVisible.

    It is seen by those who see its Connection: whoever has a role, and the team that looks
    after it.
    """
    if not text:
        return None
    try:
        found = shadows.by_id(UUID(text))
    except ValueError:
        found = None
    if found is None:
        raise NotVisible(f"shadow {text}")
    team = found.connection.team
    looks_after = team is not None and people.is_in(person, team.name)
    if not looks_after and not people.has_role(person, *READERS):
        raise NotVisible(f"shadow {text}")
    return found


def _connection(person: User, slug: str) -> Any:  # noqa: ANN401 - views do not import tables.
    for row in connections.choices(person):
        if row.slug == slug:
            return row
    raise NotVisible(f"connection {slug}")


@sensitive_variables()
def _ask(form: AdoptForm, shadow: Any, *, now: datetime) -> UUID | None:  # noqa: ANN401
    """Ask for it and return the request; or blame the form and return None."""
    try:
        imported = adopt_keys.ask(
            person=form.person,
            found=[form.found(shadow)],
            reason=form.cleaned_data["purpose"],
            ticket=form.cleaned_data["ticket"],
            now=now,
        )
    except new_adoption.BadAdoption as error:
        for fault in error.faults:
            form.blame(fault.field, fault.sentence)
    except services.BadText as error:
        form.blame("ticket" if error.field == "ticket" else "purpose", error.sentence)
    except (NoPolicy, services.Denied) as error:
        form.blame("", str(error))
    else:
        for one in imported.duplicates:
            form.blame("value", _TWICE[one.why].format(of=one.of or _HIDDEN))
        return imported.asked[0].request.pk if imported.asked else None
    return None


def _choose(request: HttpRequest, person: User) -> HttpResponse:
    titles = dict(connections.providers())
    cards = [
        {"connection": row, "provider": titles[row.provider], "problems": connections.problems(row)}
        for row in connections.choices(person)
    ]
    context = {
        "cards": cards,
        "teams": new_key.teams(person),
        "nav": "mine",
        "form_url": reverse("adopt"),
        "is_adoption": True,
    }
    return render(request, CHOOSE, context)


def _page(
    request: HttpRequest,
    form: AdoptForm,
    shadow: Any,  # noqa: ANN401 - views do not import tables.
    *,
    now: datetime,
    status: int = 200,
) -> HttpResponse:
    context = {
        "now": now,
        "nav": "mine",
        "form": form,
        "connection": form.connection,
        "provider": dict(connections.providers()).get(form.connection.provider, ""),
        "shadow": shadow,
        "show_errors": status == UNPROCESSABLE,
    }
    return render(request, FORM, context, status=status)
