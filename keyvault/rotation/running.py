"""The job of a rotation: look, ask the state machine, do, until there is nothing to do now.

A step that fails is tried again with backoff; after the sixth try, or when
only a person can help, the rotation is held and its owner is told. So nothing
hangs silently (ROTATION.md, I6 and rule 11).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.db import transaction

from approvals import queue
from approvals.ports import CannotExecute, Later, NeedsPerson, Run, Unfinished
from keyvault.inventory import services as inventory
from keyvault.rotation import batches, holding, probes, pushes, saga, services, sight, steps
from keyvault.rotation.models import Rotation
from keyvault.rotation.saga import Do, Go, State, Step, Wait

_AGAIN_S = 1.0
_HELD_S, _HELD_MOST_S = 30.0, 3600.0
_LOST = frozenset({"ambiguous", "fault"})


_SENTENCES = {
    saga.Cause.UNCONFIRMED: "{who} did not confirm the new version of {key} in time.",
    saga.Cause.UNOBSERVED: "Nobody can see whether the old version of {key} is still in use.",
    saga.Cause.OLD_DIED: "The old version of {key} stopped working at the provider too early.",
    saga.Cause.FAILED: "{who} is not well with the new version of {key}.",
    saga.Cause.KEY_ENDED: "{key} was revoked meanwhile.",
    saga.Cause.BUSY: "A place is still getting the version of {key} that is to be left.",
    saga.Cause.NEEDED: "{who} failed while the old version of {key} was switched off. It works again.",
    saga.Cause.ASKED: "A person asked for it.",
}


@queue.handler(services.JOB)
def run(rotation_id: UUID, run: Run) -> None:
    """Move one rotation as far as it goes now. Raises Later, Unfinished, LostClaim."""
    if not Rotation.objects.filter(pk=rotation_id).exists():
        return
    try:
        while _move(rotation_id, run):
            pass
    except services.WrongMoment:
        # A person was faster than this look; the next one sees what they chose.
        raise Later(_AGAIN_S) from None
    except Unfinished as stop:
        if stop.code == "busy":
            # It waits its turn at the Connection, which is no fault of this rotation.
            raise Later(_AGAIN_S) from None
        _after_failure(rotation_id, run, stop)
    # Outside of every transaction of the rotation: a batch locks other keys.
    batches.go_on_after(rotation_id)


def _move(rotation_id: UUID, run: Run) -> bool:
    """Make one move; say whether there may be another. Raises Later."""
    found = _asked(sight.look(rotation_id), run)
    _note_progress(found, run)
    match saga.decide(found.seen):
        case None:
            return _resume(found, run)
        case Wait(seconds):
            raise Later(seconds)
        case Do(Step.REVOKE_NEW) if not _are_all_there(found, run):
            # As below: it is led back once more when more time is given.
            return True
        case Do(step):
            steps.do(step, found, run)
        case Go(State.BROWNOUT | State.REVOKING) if not _are_all_there(found, run):
            # What was written over since is to be seen before the next move.
            return True
        case Go() as way:
            _go(found, way, run)
    return True


def _asked(found: sight.Sight, run: Run) -> sight.Sight:
    """Ask the provider, the addresses and the places how it stands; return what is known then.

    Where it is decided what comes next, nobody has to answer: a place that refuses to be
    read would keep a person from going back, and a revoked key opens for no look. Raises
    Unfinished, LostClaim.
    """
    rotation_id = found.rotation.pk
    try:
        if hear := steps.HEARS.get(found.rotation.state):
            hear(found, run)
            found = sight.look(rotation_id)
        for ask in (probes.ask, pushes.verify):
            if ask(found, steps.errand_of(found, run)):
                found = sight.look(rotation_id)
    except Unfinished:
        if not found.seen.is_decided and found.rotation.state != State.HELD:
            raise
        return sight.look(rotation_id)
    return found


def _resume(found: sight.Sight, run: Run) -> bool:
    """Go on from a hold that has lost its reason; say whether it did. Raises Later, Unfinished."""
    rotation = found.rotation
    if rotation.state != State.HELD:
        return False
    if found.seen.is_suspended:
        # Nobody answered when it was held; whoever still needs it must not wait for a person.
        steps.do(Step.RESUME_OLD, found, run)
        return True
    if not is_over(rotation):
        if pushes.unproved(found):
            # Nobody reports for a place, so it is looked at, more and more seldom.
            raise Later(min(max(_HELD_S, found.seen.since_s / 10), _HELD_MOST_S))
        if probes.goes_on_asking(rotation):
            # By the same job, for a new one each minute would be a row that stays for ever.
            raise Later(probes.HELD_EVERY.total_seconds())
        return False
    # What was tried before the hold says nothing of now.
    _go(found, Go(State(rotation.held_from)), run, old_verdict=saga.Old.UNTRIED)
    return True


def is_over(rotation: Rotation) -> bool:
    """Say whether a held rotation can go on, because those whom it waited for have come."""
    return holding.is_over(sight.where_held(rotation.pk), rotation.cause)


def _are_all_there(found: sight.Sight, run: Run) -> bool:
    """Look at every place once more; a person who let it go on has answered for all of them."""
    is_answered = found.rotation.may_go_on or not found.seen.key_lives
    return is_answered or pushes.are_all_there(found, steps.errand_of(found, run))


def _note_progress(found: sight.Sight, run: Run) -> None:
    """Write down who has moved since the last look."""
    number, since = found.new.number if found.new else None, found.rotation.since
    news = [
        (one, state)
        for one in found.deliveries
        if (state := sight.progress(one, number, found.proofs, found.heard, since=since))
        != one.state
    ]
    if not news:
        return
    with transaction.atomic(durable=True):
        run.fence()
        for delivery, state in news:
            services.note(delivery, state, rotation=found.rotation, now=run.now)


def _go(found: sight.Sight, way: Go, run: Run, **facts: Any) -> None:  # noqa: ANN401 - columns.
    with transaction.atomic(durable=True):
        run.fence()
        if way.state is State.CREATING:
            _require_no_writing(found.rotation)
        services.enter(
            found.rotation,
            way.state,
            wave=way.wave,
            cause=way.cause or "",
            sentence=_sentence(found, way),
            now=run.now,
            **facts,
        )
    run.reached(f"rotation:{way.state}")


def _require_no_writing(rotation: Rotation) -> None:
    """Raise WrongMoment when a job has begun to write to a place since the look.

    Both take the key's row lock, so that one of them sees the other.
    """
    inventory.lock(key_id=rotation.key_id)
    if sight.is_being_written(rotation):
        raise services.WrongMoment("A place is just getting the version that is to be left.")


def _after_failure(rotation_id: UUID, run: Run, stop: Unfinished) -> None:
    """Hold the rotation, unless it is, when trying again cannot help; else let the job back off."""
    rotation = Rotation.objects.select_related("key").get(pk=rotation_id)
    if rotation.state == State.HELD:
        raise stop
    if isinstance(stop, NeedsPerson) and stop.code in services.BY_HAND:
        with transaction.atomic(durable=True):
            run.fence()
            services.tell(rotation, stop.sentence, now=run.now)
        raise stop
    if run.is_last or isinstance(stop, NeedsPerson | CannotExecute):
        _switch_on(rotation_id, run)
        with transaction.atomic(durable=True):
            run.fence()
            services.enter(
                rotation,
                State.HELD,
                cause=saga.Cause.STOPPED,
                sentence=stop.sentence,
                now=run.now,
            )
        return
    if rotation.state == State.CREATING and stop.code in _LOST:
        with transaction.atomic(durable=True):
            run.fence()
            services.enter(rotation, State.RECONCILING, sentence=stop.sentence, now=run.now)
    raise stop


def _switch_on(rotation_id: UUID, run: Run) -> None:
    """Leave a rotation that is to be held with both versions working, where the provider answers."""
    found = sight.look(rotation_id)
    if found.rotation.state == State.BROWNOUT and found.seen.is_suspended:
        # Where it does not, the page says that the version is off, and the clock has it tried again.
        with suppress(Unfinished):
            steps.do(saga.Step.RESUME_OLD, found, run)


def _sentence(found: sight.Sight, way: Go) -> str:
    """Say why a rotation is held or goes back, naming who is behind."""
    if way.state not in {State.HELD, State.ROLLING_BACK} or way.cause is None:
        return ""
    behind = [
        one.dependent.name
        for one, part in zip(found.deliveries, found.seen.parts, strict=True)
        if part.progress not in {saga.Progress.CONFIRMED, saga.Progress.EXCUSED}
    ]
    if way.cause is saga.Cause.UNCONFIRMED and not behind:
        return f"The old version of {found.rotation.key.name} is still in use."
    who = ", ".join(behind) or "Somebody"
    return _SENTENCES[way.cause].format(who=who, key=found.rotation.key.name)
