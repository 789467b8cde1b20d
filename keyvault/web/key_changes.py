"""Change a live key: its title at once, its delivery and declared use by approval."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from approvals import ports, services
from approvals import selectors as approvals
from approvals.policy.matching import NoPolicy
from keyvault.accounts import gates, sessions
from keyvault.actions import about_keys, change_key, new_key
from keyvault.inventory import access
from keyvault.web import key_forms

if TYPE_CHECKING:
    from keyvault.accounts.models import User
    from keyvault.inventory.models import Key

CHANGE = "keyvault/keys/change.html"
UNPROCESSABLE = 422


class TitleForm(forms.Form):
    """What people call a key."""

    title = forms.CharField(max_length=120)


class UseForm(forms.Form):
    """How a key is delivered and used, as it is to hold, and why."""

    delivery_mode = forms.ChoiceField(
        widget=forms.RadioSelect, label="Delivery", choices=new_key.deliveries
    )
    allowed_hosts = key_forms.KeyForm.base_fields["allowed_hosts"]
    volume_per_day = key_forms.KeyForm.base_fields["volume_per_day"]
    labels = key_forms.KeyForm.base_fields["labels"]
    reason = forms.CharField(
        max_length=4000, widget=forms.Textarea(attrs={"rows": 3}), help_text="Approvers read this."
    )
    ticket = forms.CharField(required=False, max_length=120)

    def clean_allowed_hosts(self) -> tuple[str, ...]:
        """Return the hosts, sorted and once each."""
        return key_forms.hosts(self.cleaned_data["allowed_hosts"])

    def clean_labels(self) -> tuple[str, ...]:
        """Return the labels, sorted and once each."""
        return key_forms.labels(self.cleaned_data["labels"])

    def use(self, now: change_key.Use) -> change_key.Use:
        """Return what is asked for; what is missing or wrong stays as it is."""
        names = ("delivery_mode", "allowed_hosts", "volume_per_day", "labels")
        given = {name: self.cleaned_data[name] for name in names if name in self.cleaned_data}
        return replace(now, **given)


@gates.signed_in
@require_http_methods(["GET", "POST"])
def change(request: HttpRequest, name: str) -> HttpResponse:
    """Ask that other delivery, use or labels hold; or give another title at once."""
    person, now = sessions.person(request), timezone.now()
    key = access.access_key(person, name, "manage")
    if "rename" in request.POST:
        return _rename(request, person, key, now=now)
    form = UseForm(request.POST or None, initial=_initial(key))
    is_sent = "send" in request.POST
    if is_sent and form.is_valid():
        asked = _asked(form, person, key, now=now)
        if asked is not None:
            return asked
    titles = TitleForm(initial={"title": key.title})
    return _page(request, key, form=form, titles=titles, now=now, is_sent=is_sent)


def _rename(request: HttpRequest, person: User, key: Key, *, now: datetime) -> HttpResponse:
    titles = TitleForm(request.POST)
    if titles.is_valid():
        change_key.rename(person=person, name=key.name, title=titles.cleaned_data["title"], now=now)
        return redirect("key", key.name)
    form = UseForm(initial=_initial(key))
    return _page(request, key, form=form, titles=titles, now=now, is_sent=False)


def _asked(form: UseForm, person: User, key: Key, *, now: datetime) -> HttpResponse | None:
    """Ask, and lead to the request; on a fault note it on the form and return nothing."""
    try:
        asked = change_key.ask(
            person=person,
            name=key.name,
            use=form.use(change_key.Use.of(key)),
            reason=form.cleaned_data["reason"],
            ticket=form.cleaned_data["ticket"],
            now=now,
        )
        return redirect("request", asked.pk)
    except about_keys.AlreadyAsked as error:
        return redirect("request", error.request_id)
    except services.BadText as error:
        form.add_error(error.field if error.field in form.fields else None, error.sentence)
    except (
        change_key.NothingToChange,
        change_key.NotChangeable,
        NoPolicy,
        services.Denied,
    ) as error:
        form.add_error(None, str(error))
    return None


def _page(
    request: HttpRequest,
    key: Key,
    *,
    form: UseForm,
    titles: TitleForm,
    now: datetime,
    is_sent: bool,
) -> HttpResponse:
    context = {
        "nav": "keys",
        "now": now,
        "key": key,
        "form": form,
        "titles": titles,
        "preview": _preview(sessions.person(request), key, form, now=now),
        "show_errors": is_sent,
    }
    is_wrong = (is_sent and form.errors) or titles.errors
    return render(request, CHANGE, context, status=UNPROCESSABLE if is_wrong else 200)


def _preview(person: User, key: Key, form: UseForm, *, now: datetime) -> Any:  # noqa: ANN401
    """Return who would decide about what the form says so far; nothing while it changes nothing."""
    before = change_key.Use.of(key)
    wanted = form.use(before) if form.is_bound and (form.is_valid() or form.errors) else before
    if wanted == before or key.state != "live":
        return None
    try:
        return approvals.preview(change_key.ChangeKey(key_id=key.pk, use=wanted), person, now=now)
    except ports.NotVisible:
        return None


def _initial(key: Key) -> dict[str, Any]:
    return {
        "delivery_mode": key.delivery_mode,
        "allowed_hosts": "\n".join(key.allowed_hosts),
        "volume_per_day": key.volume_per_day,
        "labels": ", ".join(key.labels),
    }
