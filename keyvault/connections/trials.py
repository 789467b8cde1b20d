"""Write test runs of Connections: each change once, with its ledger line, in one transaction.

A test run is begun by an approved act and moved by the job of its request alone
(`trying`). Its rows name every attempt by its tag, so that the inventory ends what a
late call leaves behind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models, transaction

from approvals import queue
from approvals.ports import Actor
from approvals.services.states import EXECUTE
from keyvault.audit import ledger
from keyvault.connections import kinds, renewals, schedule, selectors
from keyvault.connections.comparing import Standing
from keyvault.connections.context import subject_of
from keyvault.connections.models import TRIAL_ENDS, Connection, Trial, TrialState
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.providers import base
from keyvault.providers.base import Recovery, Shape

RUNNER = Actor("system", "trial", "Test run")
# What such an attempt leaves cannot be told from what others made, so that no look ends it.
_UNLISTED = (Recovery.NONE, Recovery.DIFF)
_LEFT_MAX = 300
_WAYS: Mapping[TrialState, frozenset[TrialState]] = {
    TrialState.PLANNED: frozenset({TrialState.CALLING, TrialState.FAILED}),
    # Back to the plan only where nothing is left.
    TrialState.CALLING: frozenset({TrialState.PLANNED, TrialState.PASSED, TrialState.FAILED}),
}


class Step(models.TextChoices):
    """What a test run does, in this order; the words are those of the page."""

    CHECK = "check", "The provider's own check, which only reads"
    PREPARE = "prepare", "The credential is planned"
    CREATE = "create", "It is made"
    VALIDATE = "validate", "It works"
    FIND = "find", "The provider lists it, so that a lost answer can be repaired"
    REVOKE = "revoke", "It is ended"
    REFUSE = "refuse", "It is refused"
    GONE = "gone", "Nothing of it is listed any more"
    CLEAN = "clean", "What was made before is ended"


class NotTriable(Exception):
    """There can be no test run of the Connection now. The message says why, and the mend."""


class WrongMoment(Exception):
    """The test run is not where this can be done: somebody else has moved or ended it."""


def why_not(connection: Connection) -> str:
    """Return why there can be no test run of a Connection now, with the mend; empty if there can."""
    if kinds.is_destination(connection.provider):
        return "Nothing is issued at a destination. Check it, and lay a key at a place there."
    can = selectors.capabilities(connection)
    if can is None:
        return "Its plug-in is not loaded. Name it in KEYVAULT_ALLOWED_PLUGINS."
    if can.shape is Shape.MANUAL:
        return "A person makes each credential here, so nothing can be tried. Ask for a key."
    if renewals.open_of(connection.pk) is not None:
        return "Its admin credential is being renewed. Wait until that is over, or decide it."
    if open_of(connection.pk) is not None:
        return "A test run of it is under way already. Wait for its end."
    return ""


def open_of(connection_id: UUID) -> Trial | None:
    """Return the test run of a Connection that has not come to its end, or None."""
    return _all().filter(connection_id=connection_id).exclude(state__in=TRIAL_ENDS).first()


def of_request(request_id: UUID) -> Trial | None:
    """Return the test run that a request has begun, with its Connection as both are now."""
    return _all().filter(request_id=request_id).first()


def history(connection_id: UUID, *, most: int = 5) -> Sequence[Trial]:
    """Return the newest test runs of a Connection."""
    return list(Trial.objects.filter(connection_id=connection_id)[:most])


def newest(ids: Collection[UUID]) -> Mapping[UUID, Trial]:
    """Return the newest test run of each of some Connections."""
    rows = Trial.objects.filter(connection_id__in=ids)
    rows = rows.order_by("connection_id", "-created_at").distinct("connection_id")
    return {row.connection_id: row for row in rows}


def standings(connection_id: UUID, tags: Collection[str]) -> dict[str, Standing]:
    """Say for each tag that is of a test run whether its credential is on its way or over."""
    wanted = set(tags)
    found: dict[str, Standing] = {}
    for row in Trial.objects.filter(connection_id=connection_id, tags__overlap=list(wanted)):
        found |= dict.fromkeys(wanted.intersection(row.tags), Standing.OVER)
        if row.state == TrialState.CALLING and row.tags[-1] in wanted:
            found[row.tags[-1]] = Standing.IN_FLIGHT
    return found


def begin(
    *,
    connection_id: UUID,
    request_id: UUID,
    started_by: str,
    options: Mapping[str, str],
    actor: Actor,
    now: datetime,
) -> Trial:
    """Begin a test run in the caller's transaction. Raises NotTriable."""
    # The lock is that of whoever begins a renewal: of two that begin at once one waits and is refused.
    row = Connection.objects.select_for_update().filter(pk=connection_id).first()
    if row is None:
        raise NotTriable("This Connection does not exist any more.")
    if refusal := why_not(row):
        raise NotTriable(refusal)
    trial = Trial.objects.create(
        connection=row,
        request_id=request_id,
        started_by=started_by,
        options=dict(options),
        created_at=now,
    )
    _record("trial.started", trial, actor, now, {"started_by": started_by})
    return trial


def called(trial: Trial, planned: base.Attempt, *, now: datetime) -> None:
    """Write an attempt down before its call, in the caller's transaction. Raises WrongMoment."""
    tags = [*trial.tags, planned.tag]
    _require_way(TrialState(trial.state), TrialState.CALLING)
    _update(trial, TrialState.CALLING, tags=tags, plan=planned.to_json())
    fields = {"attempt": trial.attempt, "tag": planned.tag}
    _record("trial.called", trial, RUNNER, now, fields)


def stepped(trial: Trial, step: Step, *, outcome: str, sentence: str, now: datetime) -> None:
    """Note a step in the caller's transaction. outcome: ok, again or failed. Raises WrongMoment."""
    told = {"step": step.value, "outcome": outcome, "sentence": sentence}
    _update(trial, TrialState(trial.state), steps=[*trial.steps, {**told, "at": now.isoformat()}])
    _record("trial.stepped", trial, RUNNER, now, {"attempt": trial.attempt, **told})


def anew(trial: Trial, sentence: str, *, now: datetime) -> None:
    """Go back to the plan, because nothing is left at the provider. Raises WrongMoment."""
    _move(trial, TrialState.PLANNED, sentence, now=now, attempt=trial.attempt + 1)


def passed(trial: Trial, sentence: str, *, now: datetime) -> None:
    """End a test run that has proved everything, in the caller's transaction. Raises WrongMoment."""
    _move(trial, TrialState.PASSED, sentence, now=now)


def give_up(
    trial: Trial, sentence: str, *, now: datetime, left: str = "", is_proved: bool = True
) -> None:
    """End a test run that has failed, in the caller's transaction; tell of what may be left.

    left: the provider's id of it, where that is known. is_proved: whether a look of the
    inventory shows that it has ended. Raises WrongMoment.
    """
    is_clean = trial.state == TrialState.PLANNED
    left = "" if is_clean else (left or trial.tags[-1])[:_LEFT_MAX]
    _move(trial, TrialState.FAILED, sentence, now=now, left_behind=left)
    if left:
        _tell(trial, left, now=now, is_proved=is_proved)
        schedule.look_soon(connection_id=trial.connection_id, now=now)


def abandon(*, request_id: UUID, now: datetime) -> None:
    """End what a request has begun that ends undone itself, in the caller's transaction."""
    trial = of_request(request_id)
    if trial is not None and trial.is_open:
        give_up(trial, "Its request was ended before the test run was.", now=now)


def look_after(now: datetime) -> int:
    """Give up the test runs whose job waits for a person; return how many. The clock calls it."""
    held = {job.subject_id: job.sentence for job in queue.held(kind=EXECUTE, limit=None)}
    rows = _all().exclude(state__in=TRIAL_ENDS).filter(request_id__in=held)
    for trial in rows:
        # Whoever has it go on meanwhile has moved it.
        with suppress(WrongMoment), transaction.atomic(durable=True):
            give_up(trial, held[trial.request_id], now=now)
    return len(rows)


def _tell(trial: Trial, left: str, *, now: datetime, is_proved: bool) -> None:
    can = selectors.capabilities(trial.connection)
    is_found = is_proved and can is not None and can.recovery not in _UNLISTED
    then = "The next look at the provider ends it." if is_found else "Look there, and end it."
    findings.open(
        kind=FindingKind.ORPHAN if is_found else FindingKind.UNANSWERED,
        subject=subject_of(trial.connection),
        detail=left,
        sentence=f"A test run may have left {left} behind. {trial.sentence} {then}",
        now=now,
        actor=RUNNER,
    )


def _move(
    trial: Trial,
    state: TrialState,
    sentence: str,
    *,
    now: datetime,
    **facts: Any,  # noqa: ANN401 - columns of the row that change with the state.
) -> None:
    before = TrialState(trial.state)
    _require_way(before, state)
    if state in TRIAL_ENDS:
        facts["ended_at"] = now
    _update(trial, state, sentence=sentence, **facts)
    fields = {"state": str(state), "before": str(before), "sentence": sentence}
    _record("trial.moved", trial, RUNNER, now, {"attempt": trial.attempt, **fields})


def _require_way(before: TrialState, state: TrialState) -> None:
    if state not in _WAYS.get(before, frozenset()):
        raise WrongMoment(f"A test run never goes from {before} to {state}.")


def _update(trial: Trial, state: TrialState, **facts: Any) -> None:  # noqa: ANN401 - columns.
    """Change the row if it is as it was read. Raises WrongMoment."""
    here = Trial.objects.filter(pk=trial.pk, state=trial.state, attempt=trial.attempt)
    if not here.update(state=state, **facts):
        raise WrongMoment("Somebody else has moved this test run.")
    trial.refresh_from_db(fields=["state", *facts])


def _record(  # noqa: PLR0917 - every caller passes all of it.
    event: str, trial: Trial, actor: Actor, now: datetime, fields: Mapping[str, Any]
) -> None:
    ledger.record(
        event,
        actor=actor,
        subject=subject_of(trial.connection),
        now=now,
        fields={"trial": str(trial.pk), **fields},
        request_id=trial.request_id,
    )


def _all() -> models.QuerySet[Trial]:
    return Trial.objects.select_related("connection")
