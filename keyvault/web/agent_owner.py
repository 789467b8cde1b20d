"""Ask that other people answer for an agent, also for one that nobody answers for any more."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from approvals import services
from approvals.policy.matching import NoPolicy
from keyvault.accounts import gates, sessions
from keyvault.actions import about_keys, change_owner, new_grant
from keyvault.agents import access, ownership
from keyvault.web.agent_access import AccessForm

if TYPE_CHECKING:
    from keyvault.accounts.models import User
    from keyvault.agents.models import Agent

OWNER = "keyvault/agents/owner.html"
UNPROCESSABLE = 422


class OwnerForm(forms.Form):
    """Who is to answer for an agent, and why."""

    owner = forms.ChoiceField(help_text="A member of the team that runs it.")
    backup_owner = forms.ChoiceField(
        required=False, label="Backup owner", help_text="Answers for it when the owner cannot."
    )
    reason = AccessForm.base_fields["reason"]
    ticket = AccessForm.base_fields["ticket"]

    def __init__(self, *args: object, agent: Agent, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Handed through as they come.
        backups = [("", "Nobody"), *_choices(ownership.backups())]
        for name, choices in (
            ("owner", _choices(ownership.owners(agent))),
            ("backup_owner", backups),
        ):
            field = self.fields[name]
            if isinstance(field, forms.ChoiceField):
                field.choices = choices

    def clean_owner(self) -> UUID:
        """Return the id of the person who is to own the agent."""
        return UUID(self.cleaned_data["owner"])

    def clean_backup_owner(self) -> UUID | None:
        """Return the id of the person who is to stand in, if one is named."""
        chosen = self.cleaned_data["backup_owner"]
        return UUID(chosen) if chosen else None


@gates.signed_in
@require_http_methods(["GET", "POST"])
def change(request: HttpRequest, name: str) -> HttpResponse:
    """Ask that another owner and backup owner answer for this agent."""
    person, now = sessions.person(request), timezone.now()
    agent = access.access_agent(person, name, "hand_over")
    said = {"owner": str(agent.owner_id), "backup_owner": str(agent.backup_owner_id or "")}
    form = OwnerForm(request.POST or None, agent=agent, initial=said)
    if request.method == "POST" and form.is_valid():
        asked = _asked(form, person, agent, now=now)
        if asked is not None:
            return asked
    context: dict[str, Any] = {
        "nav": "agents",
        "agent": agent,
        "form": form,
        "is_orphan": access.is_orphan(agent),
        "has_candidates": ownership.owners(agent).exists(),
    }
    return render(request, OWNER, context, status=UNPROCESSABLE if form.errors else 200)


def _asked(form: OwnerForm, person: User, agent: Agent, *, now: datetime) -> HttpResponse | None:
    """Ask, and lead to the request; on a fault note it on the form and return nothing."""
    try:
        asked = change_owner.ask(person=person, agent=agent.name, now=now, **form.cleaned_data)
        return redirect("request", asked.pk)
    except about_keys.AlreadyAsked as error:
        return redirect("request", error.request_id)
    except ownership.BadOwners as error:
        for field, sentence in error.errors.items():
            form.add_error(field, sentence)
    except services.BadText as error:
        form.add_error(error.field if error.field in form.fields else None, error.sentence)
    except (
        new_grant.NotGrantable,
        change_owner.NothingToChange,
        NoPolicy,
        services.Denied,
    ) as error:
        form.add_error(None, str(error))
    return None


def _choices(found: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - people, with what they hold.
    return [(str(row.pk), f"{row} ({row.username})") for row in found]
