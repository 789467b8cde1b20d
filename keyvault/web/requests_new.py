"""Ask for a key: choose a Connection, fill one form, see who decides before sending it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from approvals import selectors as approvals
from approvals import services
from approvals.policy.matching import NoPolicy
from approvals.ports import NotVisible
from keyvault.accounts import gates, sessions
from keyvault.actions import create_key, new_key
from keyvault.connections import selectors as connections
from keyvault.inventory import risk
from keyvault.inventory.services import NameTaken
from keyvault.web import key_forms
from keyvault.web.key_forms import KeyForm

if TYPE_CHECKING:
    from keyvault.accounts.models import User

FORM = "keyvault/keys/request.html"
CHOOSE = "keyvault/keys/choose.html"
ASIDE = "keyvault/keys/_deciders.html"
UNPROCESSABLE = 422
# The fields that a button of the page may set; anything else in `set` is ignored (R39).
SETTABLE = frozenset({"lifetime_days", "cadence_days", "volume_per_day"})


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One button beside the form: a value for a field and what it would do."""

    value: str
    title: str
    effect: str


@gates.signed_in
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Show the Connections, then the form; on POST preview it or send it."""
    person, now = sessions.person(request), timezone.now()
    filled = _again(person, request.GET.get("again", ""))
    slug = request.POST.get("connection") or request.GET.get("connection") or filled.connection
    if not slug:
        return _choose(request, person)
    connection = _connection(person, slug)
    if request.method == "GET":
        form = KeyForm(person=person, connection=connection, initial=filled.initial)
        return _page(request, form, now=now)
    form = KeyForm(_with_set(request.POST), person=person, connection=connection)
    if "send" not in request.POST:
        return _page(request, form, now=now)
    return _send(request, form, now=now)


@gates.signed_in
@require_http_methods(["GET", "POST"])
def edit(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Revise a request that is not decided yet, in the form that made it."""
    person, now = sessions.person(request), timezone.now()
    new_key.reserved_by(request_id, person=person)
    row = approvals.access_request(person, request_id)
    asked = create_key.CreateKey.from_payload(row.payload)
    slug = request.POST.get("connection") or asked.declared.connection
    connection = _connection(person, slug)
    if request.method == "GET":
        filled = key_forms.initial(asked.declared, keep_reason=True) | {"ticket": row.ticket}
        form = KeyForm(person=person, connection=connection, initial=filled)
        return _page(request, form, now=now, revises=row)
    form = KeyForm(_with_set(request.POST), person=person, connection=connection)
    if "send" not in request.POST:
        return _page(request, form, now=now, revises=row)
    return _send(request, form, now=now, revises=row)


@gates.signed_in
@require_POST
def preview(request: HttpRequest) -> HttpResponse:
    """Return the column beside the form for what is typed so far."""
    person, now = sessions.person(request), timezone.now()
    connection = _connection(person, request.POST.get("connection", ""))
    form = KeyForm(_with_set(request.POST), person=person, connection=connection)
    form.is_valid()
    return render(request, ASIDE, {"now": now, "form": form} | _aside(form, now=now))


@dataclass(frozen=True, slots=True)
class _Filled:
    """What an earlier request fills the form with."""

    connection: str
    initial: dict[str, Any]


def _again(person: User, text: str) -> _Filled:
    """Return an earlier request of this person to ask for again; nothing when it is not theirs."""
    if not text:
        return _Filled("", {})
    try:
        row = approvals.access_request(person, UUID(text))
        asked = create_key.CreateKey.from_payload(row.payload)
    except ValueError:
        raise NotVisible(f"request {text}") from None
    return _Filled(asked.declared.connection, key_forms.initial(asked.declared, keep_reason=False))


def _connection(person: User, slug: str) -> Any:  # noqa: ANN401 - views do not import tables.
    for connection in connections.choices(person):
        if connection.slug == slug:
            return connection
    raise NotVisible(f"connection {slug}")


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
        "form_url": reverse("request-new"),
    }
    return render(request, CHOOSE, context)


def _send(
    request: HttpRequest,
    form: KeyForm,
    *,
    now: datetime,
    revises: Any = None,  # noqa: ANN401 - views do not import tables.
) -> HttpResponse:
    """Ask for what the form declares; on a fault show the form with what was typed."""
    nearest: dict[str, int] = {}
    if form.is_valid():
        before = create_key.asked_before(person=form.person, key_id=form.key_id())
        if before is not None and revises is None:
            return redirect("request", before)
        try:
            return redirect("request", _ask(form, now=now, revises=revises))
        except new_key.BadDeclaration as error:
            nearest = error.nearest
            for name, sentence in error.errors.items():
                form.blame(name, sentence)
        except NameTaken as error:
            form.add_error("name", str(error))
        except services.BadText as error:
            field = "ticket" if error.field == "ticket" else "purpose"
            form.add_error(field, error.sentence)
        except (NoPolicy, services.Denied) as error:
            form.add_error(None, str(error))
    return _page(request, form, now=now, status=UNPROCESSABLE, nearest=nearest, revises=revises)


def _ask(form: KeyForm, *, now: datetime, revises: Any) -> UUID:  # noqa: ANN401
    asked = {
        "person": form.person,
        "declared": form.declared(),
        "reason": form.cleaned_data["purpose"],
        "ticket": form.cleaned_data["ticket"],
        "now": now,
    }
    if revises is None:
        return create_key.ask(**asked, key_id=form.key_id()).pk
    return create_key.revise(**asked, request_id=revises.pk).pk


def _page(
    request: HttpRequest,
    form: KeyForm,
    *,
    now: datetime,
    status: int = 200,
    nearest: dict[str, int] | None = None,
    revises: Any = None,  # noqa: ANN401
) -> HttpResponse:
    context = {
        "now": now,
        "nav": "mine",
        "form": form,
        "connection": form.connection,
        "provider": dict(connections.providers()).get(form.connection.provider, ""),
        "problems": connections.problems(form.connection),
        "revises": revises,
        "show_errors": status == UNPROCESSABLE,
        "nearest": [
            {"value": f"{name}={value}", "label": form.fields[name].label, "nearest": value}
            for name, value in (nearest or {}).items()
        ],
    }
    return render(request, FORM, context | _aside(form, now=now), status=status)


def _aside(form: KeyForm, *, now: datetime) -> dict[str, Any]:
    """Return who would decide and what would lower the risk, as far as the form says it."""
    declared = _declared(form)
    try:
        action = create_key.preview(person=form.person, declared=declared, now=now)
        found = approvals.preview(action, form.person, now=now)
        exposure = action.exposure()
    except NotVisible:
        return {"preview": None, "reliefs": []}
    conflicts: dict[str, int] = {}
    try:
        new_key.checked(declared, person=form.person)
    except new_key.BadDeclaration as error:
        conflicts = error.nearest
    return {
        "preview": found,
        "limits": [_limit(form, name, nearest) for name, nearest in conflicts.items()],
        "reliefs": [_suggestion(relief) for relief in risk.reliefs(exposure)],
        "advice": _advice(exposure),
    }


def _declared(form: KeyForm) -> Any:  # noqa: ANN401
    if form.is_bound:
        form.is_valid()
        return form.declared()
    started = KeyForm(_started(form), person=form.person, connection=form.connection)
    started.is_valid()
    return started.declared()


def _started(form: KeyForm) -> QueryDict:
    """Return what an untouched form would send."""
    data = QueryDict(mutable=True)
    for name in form.fields:
        value = form[name].value()
        if value not in {None, "", False}:
            data[name] = str(value)
    for name in ("environment", "team"):
        choices = list(getattr(form.fields[name], "choices", []))
        if name not in data and choices:
            data[name] = str(choices[0][0])
    return data


def _limit(form: KeyForm, name: str, nearest: int) -> Suggestion:
    return Suggestion(f"{name}={nearest}", f"{form.fields[name].label}: {nearest}", "allowed")


def _suggestion(relief: risk.Relief) -> Suggestion:
    effect = f"risk {relief.score}, {relief.points}"
    return Suggestion(f"{relief.field}={relief.value}", relief.title, effect)


def _advice(exposure: risk.Exposure) -> list[str]:
    """Return what lowers the risk and no button can fill in."""
    advice = []
    if not exposure.has_backup:
        advice.append("Name a backup owner.")
    if not exposure.allowed_hosts:
        advice.append("Name the hosts it may be used against.")
    if any(host.startswith("*.") for host in exposure.allowed_hosts):
        advice.append("Name hosts one by one instead of a whole domain.")
    return advice


def _with_set(posted: QueryDict) -> QueryDict:
    """Return what was posted, with the field that a suggestion's button sets."""
    name, _, value = posted.get("set", "").partition("=")
    if name not in SETTABLE:
        return posted
    data = posted.copy()
    data[name] = value
    return data
