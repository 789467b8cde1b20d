"""Test runs of a Connection: the newest ones on its page, and asking for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from approvals import selectors as approvals
from keyvault.accounts import gates, sessions
from keyvault.actions import trial_plan, try_connection
from keyvault.connections import selectors, trials
from keyvault.connections.trials import Step
from keyvault.findings import selectors as findings
from keyvault.web import live
from keyvault.web.keys import ReasonForm, asked
from keyvault.web.option_forms import OPTION, option_fields, typed_options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from django.http import QueryDict

    from keyvault.accounts.models import User

ASK = "keyvault/connections/try.html"
ADMINISTRATORS = "administrators"
UNPROCESSABLE = 422
_MOST_STEPS = 24


class TrialForm(ReasonForm):
    """The settings of a throwaway credential, and why it is made."""

    def __init__(self, data: QueryDict | None = None, *, connection: Any) -> None:  # noqa: ANN401
        super().__init__(data)
        self.schema = tuple(selectors.options_schema(connection.provider))
        proposed = selectors.proposed_options(connection, trial_plan.NAME)
        last = next((dict(row.options) for row in trials.history(connection.pk, most=1)), {})
        self.fields = option_fields(self.schema, {**proposed, **last}) | self.fields

    @property
    def settings(self) -> list[Any]:
        """Return the bound fields of the settings."""
        return [self[OPTION + entry.name] for entry in self.schema]

    def blame(self, errors: Mapping[str, str]) -> None:
        """Show faults of the settings beside the fields that they are about."""
        for name, sentence in errors.items():
            self.add_error(name if name in self.fields else None, sentence)


def section(person: User, row: Any, *, now: datetime) -> dict[str, Any]:  # noqa: ANN401 - no tables.
    """Return what the page of a Connection shows of its test runs."""
    # Read first: what changes while the page is made is then news to its first poll.
    made_from = live.version(person, f"trials:{row.slug}", now=now)
    found = trials.history(row.pk)
    newest = found[0] if found else None
    told = {one.detail for one in findings.for_subject("connection", str(row.pk))}
    return {
        "trials_at": made_from,
        "trial": newest,
        "trial_steps": _steps(newest) if newest else [],
        "trial_next": _next(newest) if newest else "",
        "trials_before": found[1:],
        "trial_leaves": bool(newest and newest.left_behind and newest.left_behind in told),
        "trial_refusal": trials.why_not(row),
    }


def _steps(trial: Any) -> list[dict[str, str]]:  # noqa: ANN401 - views import no tables.
    """Return the newest steps of a test run, in order, in words; its end is told above them."""
    return [
        {
            "label": str(Step(step["step"]).label),
            "outcome": step["outcome"],
            "sentence": "" if step["sentence"] == trial.sentence else step["sentence"],
        }
        for step in trial.steps[-_MOST_STEPS:]
    ]


def _next(trial: Any) -> str:  # noqa: ANN401 - views import no tables.
    """Return which step an open test run is at, in words; nothing where it has ended."""
    if not trial.is_open:
        return ""
    order: list[Step] = [step for step in Step if step is not Step.CLEAN]
    done = trial.steps[-1] if trial.steps else {"step": "", "outcome": "again"}
    if done["outcome"] != "ok" or done["step"] not in order:
        return str(order[0].label)
    at = order.index(Step(done["step"])) + 1
    return str(order[at].label) if at < len(order) else ""


@gates.role_required(ADMINISTRATORS)
@require_http_methods(["GET", "POST"])
def try_connection_(request: HttpRequest, slug: str) -> HttpResponse:
    """Take the settings of a throwaway credential and ask that it is made, tried and ended."""
    person, now, row = sessions.person(request), timezone.now(), selectors.get(slug)
    if refusal := trials.why_not(row):
        messages.error(request, refusal)
        return redirect("connection", slug)
    form = TrialForm(request.POST or None, connection=row)
    action = try_connection.TryConnection(connection_id=row.pk, options={}, started_by="")
    context = {
        "nav": "connections",
        "now": now,
        "connection": row,
        "form": form,
        "steps": [step.label for step in Step if step is not Step.CLEAN],
        "preview": approvals.preview(action, person, now=now),
    }
    if request.method == "GET" or not form.is_valid():
        status = UNPROCESSABLE if request.method == "POST" else 200
        return render(request, ASK, context, status=status)
    return asked(request, ASK, context, lambda: _ask(person, slug, form, now))


def _ask(person: User, slug: str, form: TrialForm, now: datetime) -> Any:  # noqa: ANN401 - no tables.
    """Ask for a test run. Raises NotTriable also on settings that cannot be tried."""
    data = form.cleaned_data
    try:
        return try_connection.ask(
            person=person,
            slug=slug,
            options=typed_options(form.schema, data),
            reason=data["reason"],
            ticket=data["ticket"],
            now=now,
        )
    except try_connection.BadOptions as error:
        form.blame(error.errors)
        raise try_connection.NotTriable("Nothing was asked: correct the settings.") from error


urlpatterns = [
    path("connections/<slug:slug>/try/", try_connection_, name="connection-try"),
]
