"""Connections: the list, one of them, the form that asks for a change, and values by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from approvals import services
from approvals.policy.matching import NoPolicy
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as people
from keyvault.actions import about_keys, change_connection
from keyvault.connections import adopting, checks, intake, selectors, shadows
from keyvault.connections.drafts import BadDraft
from keyvault.dependents import selectors as dependents
from keyvault.findings import selectors as findings
from keyvault.inventory import access
from keyvault.rotation import selectors as rotations
from keyvault.web import renewals, trials
from keyvault.web.connection_forms import ConnectionForm, HandForm

UNPROCESSABLE, TOO_MANY = 422, 429
ADMINISTRATORS = "administrators"
READERS = (ADMINISTRATORS, "auditors", "responders")
FORM, HAND = "keyvault/connections/form.html", "keyvault/connections/by_hand.html"


@gates.role_required(*READERS)
@require_GET
def connections(request: HttpRequest) -> HttpResponse:
    """List every Connection with its state."""
    person = sessions.person(request)
    titles = selectors.titles()
    found = selectors.connections()
    flagged = findings.by_subject("connection", [str(row.pk) for row in found])
    rows = [
        {
            "connection": row,
            "provider": titles.get(row.provider, row.provider),
            "problems": selectors.problems(row),
            "findings": flagged.get(str(row.pk), []),
        }
        for row in found
    ]
    context = _frame(person) | {"rows": rows}
    return render(request, "keyvault/connections/connections.html", context)


@gates.role_required(*READERS)
@require_GET
def connection(request: HttpRequest, slug: str) -> HttpResponse:
    """Show one Connection: where it leads, what it can do, and what is wrong."""
    person = sessions.person(request)
    row = selectors.get(slug)
    frame = _frame(person)
    context = frame | {
        "connection": row,
        "provider": selectors.titles().get(row.provider, row.provider),
        "settings": _settings(row),
        "capabilities": selectors.capabilities(row),
        "writes": selectors.destination_capabilities(row),
        "places": dependents.places_at(row.pk),
        "is_unverified": selectors.is_unverified(row),
        "problems": selectors.problems(row),
        "findings": findings.for_subject("connection", str(row.pk)),
        "requests": change_connection.asked_about(person=person, connection_id=row.pk),
        "live_count": selectors.live_key_count(row.pk),
        "shadows": shadows.shadows(row.pk),
        "takes_listed": _takes_listed(row),
        "asked_ids": adopting.taken_ids(row.pk),
        **renewals.section(row, now=frame["now"]),
        **trials.section(person, row, now=frame["now"]),
    }
    return render(request, "keyvault/connections/connection.html", context)


@gates.role_required(ADMINISTRATORS)
@require_POST
def check(request: HttpRequest, slug: str) -> HttpResponse:
    """Check a Connection by reading only, and show the result on its page."""
    actor = people.actor(sessions.person(request))
    try:
        checked = checks.check(connection=selectors.get(slug), actor=actor, now=timezone.now())
    except checks.TooMany as error:
        messages.error(request, str(error))
        return redirect("connection", slug)
    if checked.is_ready:
        messages.success(request, "Checked: nothing is in the way.")
    else:
        messages.warning(request, f"Checked: {checked.problems[0].sentence}")
    return redirect("connection", slug)


@gates.role_required(ADMINISTRATORS)
@require_http_methods(["GET", "POST"])
@sensitive_post_parameters()
@sensitive_variables()
def new(request: HttpRequest) -> HttpResponse:
    """Choose a provider or a destination, then fill in the form and ask for a Connection."""
    kind = request.POST.get("provider") or request.GET.get("provider", "")
    if kind not in selectors.titles():
        context = _frame(sessions.person(request)) | {
            "providers": selectors.providers(),
            "destinations": selectors.destinations(),
        }
        return render(request, "keyvault/connections/choose.html", context)
    return _form(request, ConnectionForm(request.POST or None, kind=kind))


@gates.role_required(ADMINISTRATORS)
@require_http_methods(["GET", "POST"])
@sensitive_post_parameters()
@sensitive_variables()
def edit(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask to change a Connection."""
    before = selectors.get(slug)
    return _form(request, ConnectionForm(request.POST or None, kind=before.provider, before=before))


@gates.signed_in
@require_http_methods(["GET", "POST"])
@sensitive_post_parameters()
@sensitive_variables()
def by_hand(request: HttpRequest, name: str) -> HttpResponse:
    """Take the value of a credential made by hand, or the word that one has been ended."""
    person, now = sessions.person(request), timezone.now()
    key = access.access_key(person, name, "view")
    task = intake.task(key=key, person=person)
    form = HandForm(request.POST or None, fields=tuple(task.fields))
    context = {"nav": "keys", "key": key, "task": task, "form": form, "now": now}
    context["what"] = _what(key, task.act)
    if request.method == "GET" or not form.is_valid():
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, HAND, context, status=status)
    try:
        if task.act == "create":
            intake.intake(key=key, person=person, typed=form.typed(), now=now)
        else:
            intake.confirm_revoked(key=key, person=person, now=now)
    except intake.NotTaken as error:
        form.add_error(None, str(error))
        return render(request, HAND, context, status=UNPROCESSABLE)
    messages.success(request, "Thank you. The work goes on by itself.")
    return redirect("key", name)


def _what(key: Any, act: str) -> str:  # noqa: ANN401 - views import no tables.
    """Return what is handed over or ended: the key, or one value of it while it is rotated."""
    rotation = rotations.open_of(key.pk)
    if rotation is None:
        return str(key.name)
    is_new = act == "create" or rotation.state == "rolling_back"
    return f"the {'new' if is_new else 'old'} value of {key.name}"


@sensitive_variables()
def _form(request: HttpRequest, form: ConnectionForm) -> HttpResponse:
    """Show the form, check what it holds, or ask for it; the credential is never sent back."""
    person, now = sessions.person(request), timezone.now()
    if request.method == "GET":
        return _page(request, form)
    if not form.is_valid():
        return _page(request, form, status=UNPROCESSABLE)
    try:
        if "check" in request.POST:
            return _page(request, form, checked=_check(form, person))
        return redirect("request", _ask(form, person=person, now=now).pk)
    except checks.TooMany as error:
        form.add_error(None, str(error))
        return _page(request, form, status=TOO_MANY)
    except BadDraft as error:
        form.blame(error.errors)
    except services.BadText as error:
        form.blame({error.field: error.sentence})
    except (about_keys.AlreadyAsked, services.Denied, NoPolicy) as error:
        form.add_error(None, str(error))
    return _page(request, form, status=UNPROCESSABLE)


@sensitive_variables()
def _check(form: ConnectionForm, person: Any) -> checks.Checked:  # noqa: ANN401 - no tables here.
    draft, typed = change_connection.clean(form.draft(), form.typed(), before=form.before)
    if form.before is not None and not typed:
        raise BadDraft({entry.name: "Type it to check." for entry in form.credential})
    hosts = checks.approved_hosts(draft.slug)
    return checks.check_draft(
        draft=draft, credential=typed, approved_hosts=hosts, actor=people.actor(person)
    )


@sensitive_variables()
def _ask(form: ConnectionForm, *, person: Any, now: datetime) -> Any:  # noqa: ANN401 - no tables here.
    return change_connection.ask(
        person=person,
        draft=form.draft(),
        credential=form.typed(),
        reason=form.cleaned_data["reason"],
        ticket=form.cleaned_data["ticket"],
        slug=form.before.slug if form.before else "",
        now=now,
    )


def _page(
    request: HttpRequest,
    form: ConnectionForm,
    *,
    status: int = 200,
    checked: checks.Checked | None = None,
) -> HttpResponse:
    context = _frame(sessions.person(request)) | {
        "form": form,
        "kind": form.kind,
        "provider": selectors.titles()[form.kind],
        "before": form.before,
        "checked": checked,
        "show_errors": status in {UNPROCESSABLE, TOO_MANY},
    }
    return render(request, FORM, context, status=status)


def _frame(person: Any) -> dict[str, Any]:  # noqa: ANN401 - views import no tables.
    return {
        "nav": "connections",
        "now": timezone.now(),
        "may_change": people.has_role(person, ADMINISTRATORS),
    }


def _takes_listed(row: Any) -> bool:  # noqa: ANN401 - views import no tables.
    """Say whether a shadow key here is adopted with its id, so that calls can end it later."""
    try:
        return selectors.takes_listed(row.provider)
    except LookupError:
        return False


def _settings(row: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - views import no tables.
    try:
        schema = selectors.config_schema(row.provider)
    except LookupError:
        return sorted(row.config.items())
    return [(entry.label, row.config.get(entry.name, "")) for entry in schema]


urlpatterns = [
    path("connections/", connections, name="connections"),
    path("connections/new/", new, name="connection-new"),
    path("connections/<slug:slug>/", connection, name="connection"),
    path("connections/<slug:slug>/edit/", edit, name="connection-edit"),
    path("connections/<slug:slug>/check/", check, name="connection-check"),
    path("keys/<slug:name>/intake/", by_hand, name="key-intake"),
]
