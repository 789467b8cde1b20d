"""Places that a key is written to: the form that asks for one, writing again, and the removal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from approvals import selectors as approvals
from approvals import services
from approvals.policy.matching import NoPolicy
from keyvault.accounts import gates, sessions
from keyvault.actions import about_keys, add_place, name_dependent, remove_place
from keyvault.connections import checks
from keyvault.connections import selectors as connections
from keyvault.connections.drafts import BadDraft
from keyvault.dependents import selectors as dependents
from keyvault.inventory import access
from keyvault.web.connection_forms import field_for
from keyvault.web.dependents import DependentForm
from keyvault.web.keys import ReasonForm, asked

if TYPE_CHECKING:
    from keyvault.connections.models import Connection

CHOOSE, FORM = "keyvault/keys/choose_destination.html", "keyvault/keys/place.html"
REMOVE = "keyvault/keys/remove_place.html"
UNPROCESSABLE, TOO_MANY = 422, 429
TARGET = "target_"


class PlaceForm(forms.Form):
    """One place at a destination, when it moves, and why."""

    name = forms.CharField(max_length=120, help_text="What people know the place by.")
    wave = DependentForm.base_fields["wave"]
    cache_s = DependentForm.base_fields["cache_s"]
    reason = ReasonForm.base_fields["reason"]
    ticket = ReasonForm.base_fields["ticket"]

    def __init__(self, *args: Any, connection: Connection, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.schema = tuple(connections.target_schema(connection.provider))
        for entry in self.schema:
            self.fields[TARGET + entry.name] = field_for(entry)
        if "check" in self.data:
            # A place can be checked before anybody has said why it is wanted.
            self.require_words(is_needed=False)
        self.fields["wave"].help_text = "In which step of a rollout it moves, 0 first: the canary."

    def require_words(self, *, is_needed: bool) -> None:
        """Say whether a name and a reason must be there."""
        self.fields["name"].required = self.fields["reason"].required = is_needed

    @property
    def targets(self) -> list[Any]:
        """Return the fields that name the place."""
        return [self[TARGET + entry.name] for entry in self.schema]

    def target(self) -> dict[str, str]:
        """Return the settings of the place as they were typed."""
        given = self.cleaned_data
        return {entry.name: str(given.get(TARGET + entry.name) or "") for entry in self.schema}

    def blame(self, errors: Mapping[str, str]) -> None:
        """Show faults beside the fields that they are about."""
        for name, sentence in errors.items():
            field = TARGET + name
            self.add_error(field if field in self.fields else None, sentence)


@gates.signed_in
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest, name: str) -> HttpResponse:
    """Choose a destination, then name a place there and ask that the key is written to it."""
    person, now = sessions.person(request), timezone.now()
    key = access.access_key(person, name, "rotate")
    choices = add_place.destinations(person, key)
    slug = request.POST.get("connection") or request.GET.get("connection", "")
    where = next((row for row in choices if row.slug == slug), None)
    context: dict[str, Any] = {"nav": "keys", "key": key, "now": now, "choices": choices}
    if where is None:
        context["titles"] = connections.titles()
        return render(request, CHOOSE, context)
    form = PlaceForm(request.POST or None, connection=where)
    context |= {"form": form, "connection": where}
    if request.method == "GET" or not form.is_valid():
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, FORM, context, status=status)
    try:
        return _looked_or_asked(request, form, context)
    except about_keys.AlreadyAsked as error:
        return redirect("request", error.request_id)
    except BadDraft as error:
        form.blame(error.errors)
    except add_place.NotPlaceable as error:
        form.add_error(error.field if error.field in form.fields else None, str(error))
    except services.BadText as error:
        form.add_error(error.field if error.field in form.fields else None, error.sentence)
    except (services.Denied, NoPolicy) as error:
        form.add_error(None, str(error))
    return render(request, FORM, context, status=UNPROCESSABLE)


def _looked_or_asked(
    request: HttpRequest, form: PlaceForm, context: dict[str, Any]
) -> HttpResponse:
    """Look at the place, and ask unless only that was wanted or something stands in the way.

    Who has read what stands in the way may ask all the same: those who decide read it, too.
    Raises what `add_place.look` and `add_place.ask` raise.
    """
    person, now = sessions.person(request), context["now"]
    try:
        looked = add_place.look(
            person=person,
            key=context["key"].name,
            connection=context["connection"].slug,
            target=form.target(),
            now=now,
        )
    except checks.TooMany as error:
        form.require_words(is_needed=True)
        form.add_error(None, str(error))
        return render(request, FORM, context, status=TOO_MANY)
    if "check" in request.POST or not (looked.seen.is_ready or "anyway" in request.POST):
        status = 200 if "check" in request.POST else UNPROCESSABLE
        form.require_words(is_needed=True)
        return render(request, FORM, context | {"checked": looked.seen}, status=status)
    plain = ("name", "wave", "cache_s", "reason", "ticket")
    made = add_place.ask(
        person=person,
        place=looked,
        now=now,
        **{field: form.cleaned_data[field] for field in plain},
    )
    return redirect("request", made.pk)


@gates.signed_in
@require_POST
def write_again(request: HttpRequest, name: str, dependent_id: UUID) -> HttpResponse:
    """Have the current version written to an approved place once more."""
    person, now = sessions.person(request), timezone.now()
    row = name_dependent.write_again(person=person, key=name, dependent_id=dependent_id, now=now)
    messages.success(request, f"keyvault writes to {row.name} again.")
    return redirect("key-dependents", name)


@gates.signed_in
@require_http_methods(["GET", "POST"])
def remove(request: HttpRequest, name: str, dependent_id: UUID) -> HttpResponse:
    """Show who finds nothing any more when a place is removed, and ask for it."""
    person, now = sessions.person(request), timezone.now()
    key = access.access_key(person, name, "rotate")
    row = dependents.by_id(key.pk, dependent_id)
    action = remove_place.plan(person=person, key=name, dependent_id=dependent_id)
    form = ReasonForm(request.POST or None)
    context = {
        "name": name,
        "nav": "keys",
        "now": now,
        "form": form,
        "plan": action.describe(),
        "preview": approvals.preview(action, person, now=now),
    }
    if request.method == "GET" or not form.is_valid():
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, REMOVE, context, status=status)
    return asked(
        request,
        REMOVE,
        context,
        lambda: remove_place.ask(
            person=person, key=name, place=row.name, now=now, **form.cleaned_data
        ),
    )
