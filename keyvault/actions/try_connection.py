"""Try a Connection: asked, shown and done in one file.

What is approved is that a throwaway credential with these settings is made and ended. It
is all done within the job of the request, so that the request says how the test run ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, services
from approvals import selectors as requests
from approvals.ports import Change, Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_connections, about_keys, connection_plan, key_plan, trial_plan
from keyvault.actions.trial_plan import BadOptions
from keyvault.connections import renewals, selectors, trials, trying
from keyvault.connections.models import Connection, Trial, TrialState
from keyvault.connections.trials import NotTriable
from keyvault.providers.base import Misconfigured
from keyvault.providers.registry import UnknownKind

if TYPE_CHECKING:
    from approvals.models import Request

__all__ = ["BadOptions", "NotTriable", "TryConnection", "ask", "plan"]

JSON = Any
_AGAIN_S, _BUSY_S = 1.0, 5.0


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class TryConnection:
    """Make, try and end one throwaway credential. options: its settings; none is secret."""

    kind: ClassVar[str] = "connection.try"
    title: ClassVar[str] = "Try a Connection"

    connection_id: UUID
    options: Mapping[str, str]
    started_by: str

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {
            "connection_id": str(self.connection_id),
            "options": dict(self.options),
            "started_by": self.started_by,
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {"connection_id", "options", "started_by"}:
            raise ValueError("The stored action has other fields than a test run.")
        return cls(
            connection_id=UUID(payload["connection_id"]),
            options={str(name): str(text) for name, text in payload["options"].items()},
            started_by=str(payload["started_by"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on; one that serves everywhere counts as protected."""
        return about_connections.attributes(self._row())

    def people(self, role: str) -> frozenset[UUID]:
        """Return the team that looks after the Connection; nobody owns one alone."""
        return about_connections.people(self._row(), role)

    def visible_to(self, person_id: UUID) -> bool:
        """Let administrators and auditors see the request."""
        return about_keys.role_may_look(person_id)

    def describe(self) -> Plan:
        """Return which credential is made where, and what is left of it."""
        row = self._row()
        return Plan(
            title=f"Try the Connection {row.slug}",
            sentence=(
                f"Make a throwaway credential at {row.title}, use it once, and end it: nobody "
                "sees its value and nothing keeps it."
            ),
            target=Subject("connection", str(row.pk), row.slug),
            fingerprint=digests.act_digest(kind="connection", id=row.pk),
            changes=(
                *key_plan.place(row, self.options),
                Change("Environment", "", connection_plan.environment(row)),
            ),
            body={**self.to_payload(), **about_keys.server(row)},
            breaks=trial_plan.breaks(row, self.options),
            undo="The credential ends within the run. If that fails, a finding says so.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes it risky."""
        evidence = "It exists for seconds, with the rights that the settings name."
        return [
            RiskPoint(5, "Throwaway credential", evidence),
            *about_connections.protected_risk(self._row()),
        ]

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Do the test run to its end. Idempotent on `request_id`."""
        trial = trials.of_request(request_id) or self._begin(request_id, run)
        run.reached("try:begun")
        if trial.is_open:
            self._go_on(trial, request_id, run)
        if trial.is_open:
            # Somebody has moved it meanwhile; the next look sees where it is.
            raise ports.Later(_AGAIN_S)
        if trial.state != TrialState.PASSED:
            raise ports.CannotExecute("test_failed", trial.sentence)
        return Outcome(trial.sentence, {"Connection": trial.connection.slug})

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """End the test run of a request that ends undone."""
        del state
        trials.abandon(request_id=request_id, now=now)

    def subject_url(self, request_id: UUID) -> str:
        """Return the page of the Connection, where the test run is shown."""
        del request_id
        return reverse("connection", args=[self._row().slug]) + "#tests"

    def again_url(self, request_id: UUID) -> str:
        """Return the form that asks for another test run."""
        del request_id
        return reverse("connection-try", args=[self._row().slug])

    def _begin(self, request_id: UUID, run: Run) -> Trial:
        renewal = renewals.open_of(self.connection_id)
        if renewal is not None and renewal.held_at is None:
            # It takes seconds, and says nothing about what was approved.
            raise ports.Later(_BUSY_S)
        try:
            with transaction.atomic(durable=True):
                run.fence()
                return trials.begin(
                    connection_id=self.connection_id,
                    request_id=request_id,
                    started_by=self.started_by,
                    options=self.options,
                    actor=about_keys.WORKER,
                    now=run.now,
                )
        except NotTriable as error:
            raise ports.CannotExecute("wrong_state", str(error)) from error

    def _go_on(self, trial: Trial, request_id: UUID, run: Run) -> None:
        """Do the work, unless something has changed since it was asked.

        A run that is taken up again renders no plan, so the server is looked at by itself.
        """
        row = trial.connection
        if requests.plan_of(request_id)["body"]["server"] != about_keys.server(row)["server"]:
            moved = f"{row.title} leads to another server than the one approved."
            trying.give_up(trial, moved, run, is_within_reach=False)
        elif refusal := self._taken(row):
            trying.give_up(trial, refusal, run)
        else:
            trying.work_on(trial, run)

    def _taken(self, row: Connection) -> str:
        """Return why the settings cannot be tried by now; nothing where they can."""
        try:
            return trial_plan.taken(row, self.options)
        except UnknownKind:
            return ""  # The work says it.
        except Misconfigured as error:
            return str(error)

    def _row(self) -> Connection:
        return selectors.by_id(self.connection_id)


def ask(
    *,
    person: User,
    slug: str,
    options: Mapping[str, str],
    reason: str,
    now: datetime,
    ticket: str = "",
) -> Request:
    """Ask for a test run of a Connection; the view has let administrators in.

    Raises NotVisible, NotTriable, BadOptions, about_keys.AlreadyAsked, and what
    `approvals.services.submit` raises.
    """
    with transaction.atomic(durable=True):
        action = plan(person=person, slug=slug, options=options)
        kind = TryConnection.kind
        for request in requests.open_for_subject("connection", action.connection_id, act=kind):
            raise about_keys.AlreadyAsked("To try it has been asked already.", request.pk)
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )


def plan(*, person: User, slug: str, options: Mapping[str, str]) -> TryConnection:
    """Return the action as it would be asked now. Raises NotVisible, NotTriable, BadOptions."""
    row = selectors.get(slug)
    if refusal := trials.why_not(row):
        raise NotTriable(refusal)
    return TryConnection(
        connection_id=row.pk,
        options=trial_plan.completed(row, options),
        started_by=people.actor(person).label,
    )
