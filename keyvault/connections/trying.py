"""The work of a test run: a throwaway credential is made, tried, found, ended and proved to be ended.

    check -> plan -> write the attempt -> call -> try -> find -> end -> refused -> not listed

Every arrow is a transaction that is fenced by the job's claim. The value is in memory
alone, so that nobody goes on from the middle: whoever takes over after a crash or a
lost answer ends what the attempt has left, and begins anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import transaction

from approvals.ports import CannotExecute, Later, LostClaim, NeedsPerson, Run, Unfinished
from keyvault.connections import context, schedule, trials
from keyvault.connections.calls import spoken, stop_for, told
from keyvault.connections.models import Trial, TrialState
from keyvault.connections.trial_work import Work
from keyvault.connections.trials import Step
from keyvault.providers import base
from keyvault.providers.base import Validation, Verdict

log = logging.getLogger(__name__)
_BUSY_S = 5.0


def work_on(trial: Trial, run: Run) -> None:
    """Move a test run to its end; the row says then how it ended. Outermost.

    Raises Unfinished when a later try may succeed, Later when others are at work with the
    Connection, LostClaim.
    """
    reach = context.reach(trial.connection, actor=trials.RUNNER, now=run.now, purpose="test run")
    try:
        with told(), reach as found:
            _with(Work(trial, run, found))
    except trials.WrongMoment:
        # It was given up meanwhile; what this try made has been ended.
        trial.refresh_from_db()
    except Unfinished as stop:
        if stop.code == "busy":
            # It waits its turn at the Connection, which says nothing about that.
            raise Later(_BUSY_S) from None
        if not trial.is_open or not _is_over(stop, run):
            raise
        give_up(trial, stop.sentence, run)


def give_up(trial: Trial, sentence: str, run: Run, *, is_within_reach: bool = True) -> None:
    """End an open test run without a call to the provider. Outermost. Raises LostClaim.

    is_within_reach: whether the inventory looks where something may have been left.
    """
    try:
        with transaction.atomic(durable=True):
            run.fence()
            trials.give_up(trial, sentence, now=run.now, is_proved=is_within_reach)
    except trials.WrongMoment:
        # The clock was faster.
        trial.refresh_from_db()


def _is_over(stop: Unfinished, run: Run) -> bool:
    return run.is_last or isinstance(stop, NeedsPerson | CannotExecute)


def _with(work: Work) -> None:
    """Do the work; leave no value in memory, and nothing at the provider when another has taken over."""
    try:
        _go(work)
    except (LostClaim, trials.WrongMoment):
        _end_in_silence(work)
        raise
    finally:
        work.forget()


def _go(work: Work) -> None:
    try:
        if work.trial.state == TrialState.CALLING:
            work.step = Step.CLEAN
            _clean(work)
        for step, act in _steps(work):
            work.step = step
            work.note(step, act(work))
            work.run.reached(f"try:{step}")
    except Unfinished as stop:
        _after_failure(work, stop)
        return
    with work.writing():
        name = work.trial.connection.title
        sentence = f"A throwaway credential was made, tried and ended at {name}."
        trials.passed(work.trial, sentence, now=work.now)
    work.run.reached("try:passed")


def _steps(work: Work) -> list[tuple[Step, Callable[[Work], str]]]:
    """Return what is done, in order; what nobody can list is not looked for."""
    is_findable = work.is_findable()
    return [
        (step, act)
        for step, act in _ACTS.items()
        if is_findable or step not in {Step.FIND, Step.GONE}
    ]


def _check(work: Work) -> str:
    """Read what the provider's own check says. Raises NeedsPerson where something is in the way."""
    with spoken():
        found = work.provider.check(work.call())
    fatal = next((one for one in found if one.is_fatal), None)
    if fatal is not None:
        raise NeedsPerson("not_ready", f"{fatal.sentence} {fatal.mend}")
    return f"{found[0].sentence} {found[0].mend}" if found else ""


def _prepare(work: Work) -> str:
    with spoken():
        work.planned = work.provider.prepare(
            work.call(), work.trial.pk.hex, work.trial.attempt, None
        )
    return ""


def _create(work: Work) -> str:
    """Call the provider once, with the attempt written down before."""
    planned = work.planned
    if planned is None:
        raise LookupError("Nothing was planned in this try.")
    with work.writing():
        trials.called(work.trial, planned, now=work.now)
    work.run.reached("try:announced")
    try:
        work.issued = work.make(planned)
    except base.Ambiguous as error:
        raise stop_for(error) from None
    except base.ProviderError as error:
        # By the protocol nothing was made.
        with work.writing():
            trials.anew(work.trial, error.sentence, now=work.now)
        raise stop_for(error) from None
    except Exception as error:  # noqa: BLE001 - a plug-in that breaks the protocol may have made it.
        raise Unfinished("fault", f"The provider failed ({type(error).__name__}).") from None
    work.run.reached("try:called")
    return f"As {work.issued.remote_id}."


def _validate(work: Work) -> str:
    seen = work.wait_for(work.validate, _is(Verdict.VALID), work.can().settle_s)
    if seen.verdict is Verdict.INVALID:
        raise NeedsPerson("invalid", f"The new credential does not work. {seen.detail}")
    if seen.verdict is Verdict.UNKNOWN:
        raise NeedsPerson("unproved", f"The new credential could not be tried. {seen.detail}")
    return seen.detail


def _find(work: Work) -> str:
    wanted = work.in_hand.remote_id
    found = work.wait_for(
        work.find, lambda keys: wanted in {key.remote_id for key in keys}, work.can().settle_s
    )
    if wanted not in {key.remote_id for key in found}:
        sentence = "The provider does not list it, so what a lost answer leaves could not be found."
        raise NeedsPerson("not_listed", sentence)
    return ""


def _revoke(work: Work) -> str:
    with spoken():
        work.end()
    return ""


def _refuse(work: Work) -> str:
    seen = _ended(work)
    if seen.verdict is Verdict.UNKNOWN:
        sentence = "It was ended, and the provider does not say whether it works on."
        raise Unfinished("unclear", sentence)
    return seen.detail


def _ended(work: Work) -> Validation:
    """Use what was ended once more. Raises NeedsPerson where it works on."""
    seen = work.wait_for(work.validate, _is(Verdict.INVALID), work.can().revoke_lag_s)
    if seen.verdict is Verdict.VALID:
        raise NeedsPerson("still_valid", f"It was ended and works on. {seen.detail}")
    return seen


def _gone(work: Work) -> str:
    found = work.wait_for(work.find, lambda keys: not keys, work.can().revoke_lag_s)
    if found:
        raise NeedsPerson("still_listed", "It was ended, and the provider lists it as before.")
    return ""


def _is(verdict: Verdict) -> Callable[[Validation], bool]:
    return lambda seen: seen.verdict is verdict


def _clean(work: Work) -> None:
    """End whatever the newest attempt may have left, and go back to the plan.

    Raises Unfinished, NeedsPerson where that cannot be done, or what was ended works on.
    """
    is_findable = work.is_findable()
    if work.issued is None and not is_findable:
        raise NeedsPerson(
            "unanswered", "The answer was lost, and the provider cannot say what it has made."
        )
    with spoken():
        if work.issued is not None:
            work.end()
        found = work.find() if is_findable else []
        for key in found:
            work.end_listed(key)
    if work.issued is not None:
        _ended(work)
    sentence = _cleaned(work, [key.remote_id for key in found])
    with work.writing():
        trials.stepped(work.trial, Step.CLEAN, outcome="ok", sentence=sentence, now=work.now)
        trials.anew(work.trial, sentence, now=work.now)
        # A call that is still on its way may leave a credential after this look.
        schedule.look_soon(connection_id=work.trial.connection_id, now=work.now)
    work.forget()
    work.run.reached("try:clean")


def _cleaned(work: Work, found: list[str]) -> str:
    if work.issued is not None:
        return f"{work.issued.remote_id} was ended."
    if not found:
        return "The attempt before has left nothing; the inventory keeps looking."
    return f"The attempt before had left {', '.join(found)}."


def _after_failure(work: Work, stop: Unfinished) -> None:
    """Note why a step failed. When no try follows, end what was made and say how the run ended."""
    is_over, sentence = _is_over(stop, work.run), stop.sentence
    work.note(work.step, sentence, outcome="failed" if is_over else "again")
    if not is_over:
        raise stop
    left = work.issued.remote_id if work.issued is not None else ""
    if work.trial.state == TrialState.CALLING:
        try:
            _clean(work)
        except Unfinished as error:
            if error.code != stop.code:
                sentence = f"{sentence} It could not be ended: {error.sentence}"
    with work.writing():
        is_proved = stop.code != "still_valid"
        trials.give_up(work.trial, sentence, now=work.now, left=left, is_proved=is_proved)
    work.run.reached("try:failed")


def _end_in_silence(work: Work) -> None:
    """End what this try has made, when another one has the job or nobody wants it any more."""
    if work.issued is None:
        return
    try:
        work.end()
    except Exception as error:  # noqa: BLE001 - the claim is lost already; the inventory finds it.
        log.warning("a test run left a credential behind: %s", type(error).__name__)


_ACTS: dict[Step, Callable[[Work], str]] = {
    Step.CHECK: _check,
    Step.PREPARE: _prepare,
    Step.CREATE: _create,
    Step.VALIDATE: _validate,
    Step.FIND: _find,
    Step.REVOKE: _revoke,
    Step.REFUSE: _refuse,
    Step.GONE: _gone,
}
