"""Do what the state machine says: each step may be repeated after a crash at any point.

A step calls the provider between transactions; every transaction is fenced by
the claim of the job, so that a worker that was overtaken writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from django.db.models import QuerySet
from django.db.models.functions import Now

from approvals.ports import Run
from keyvault.connections import issuing, places, revoking
from keyvault.connections.calls import Errand, Work, spoken, told
from keyvault.connections.context import reach
from keyvault.inventory import changes
from keyvault.providers.base import Issued, ReportsUse
from keyvault.rotation import delivering, evidence, latecomers, pushes, saga, services, suspending
from keyvault.rotation.models import Delivery, DeliveryState, Rotation
from keyvault.rotation.saga import State, Step
from keyvault.rotation.sight import Sight
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault

if TYPE_CHECKING:
    from keyvault.vault.models import Version


def do(step: Step, sight: Sight, run: Run) -> None:
    """Do one step. Raises Unfinished, NeedsPerson, LostClaim."""
    _STEPS[step](sight, errand_of(sight, run))
    run.reached(f"rotation:{step}")


def errand_of(sight: Sight, run: Run) -> Errand:
    """Return what every step of a rotation is done for."""
    return Errand(sight.rotation.key, sight.rotation.request_id, run, services.CLOCK)


def listen(sight: Sight, run: Run) -> None:
    """Ask the provider and the gateway whether the old version is in use, and note since when not.

    Also by whom that nobody had known of. Use that a program reports of itself is no part of it. Raises Unfinished, LostClaim.
    """
    rotation, old = sight.rotation, sight.old
    if old is None:
        return
    latecomers.admit(sight, run)
    since = rotation.quiet_since or rotation.since
    used_at = evidence.reads_of_old(rotation, old.number, sight.deliveries, since=since)
    errand = errand_of(sight, run)
    is_used = used_at is not None or _is_used_there(errand, old, since)
    with errand.writing():
        mine = Rotation.objects.filter(pk=rotation.pk, state=State.DRAINING)
        if is_used or rotation.quiet_since is None:
            mine.update(quiet_since=Now())


def count(sight: Sight, run: Run) -> None:
    """Ask who fails while the old version is switched off. Raises Unfinished, LostClaim."""
    rotation, old = sight.rotation, sight.old
    if old is None or rotation.brownout_at is None:
        return
    errand = errand_of(sight, run)
    is_used_there = _is_used_there(errand, old, rotation.brownout_at)
    suspending.count(sight, is_used_there=is_used_there, errand=errand)


# What is asked before a move, in the states in which somebody has to be heard.
HEARS: Mapping[str, Callable[[Sight, Run], None]] = {
    State.DRAINING: listen,
    State.BROWNOUT: count,
    State.ROLLING_BACK: latecomers.admit,
}


def _is_used_there(errand: Errand, old: Version, since: datetime) -> bool:
    """Say whether the provider has seen the credential in use since a moment.

    Where no call can name it, its end is left to a person, who looks before.
    """
    connection = errand.key.connection
    if not places.is_within_reach(old, connection):
        return False
    with told(), reach(connection, actor=errand.actor, now=errand.now, purpose="last use") as found:
        work = Work(errand.key, errand.request_id, errand.run, errand.actor, found)
        if not isinstance(work.provider, ReportsUse):
            return False
        with spoken():
            use = work.provider.last_use(work.call(), Issued.from_json(old.remote, {}).key())
    return bool(use.sessions) or (use.at is not None and use.at > since)


def _create(sight: Sight, errand: Errand) -> None:
    version = issuing.create(errand)
    with errand.writing():
        services.enter(sight.rotation, State.CREATED, now=errand.now, new_id=version.pk)


def _validate(sight: Sight, errand: Errand) -> None:
    """Note that the credential works: `issuing.create` has tried it, and repeats that here."""
    issuing.create(errand)
    with errand.writing():
        services.enter(sight.rotation, State.VALIDATED, now=errand.now)


def _stage(sight: Sight, errand: Errand) -> None:
    pushes.stage(sight, errand)
    with errand.writing():
        services.enter(sight.rotation, State.STAGED, now=errand.now)


def _promote(sight: Sight, errand: Errand) -> None:
    """Give the wave its version: the key's label to all who fetch it, then place by place."""
    if sight.seen.is_promoted:
        with errand.writing():
            _give(sight, errand)
    elif sight.seen.is_last_wave:
        issuing.put_into_use(errand, on_promoted=lambda _: _give(sight, errand))
    pushes.promote(sight, errand)


def _give(sight: Sight, errand: Errand) -> None:
    """Note that whoever fetches has the new version, in the transaction that gives it."""
    waiting = _fetching(sight).filter(wave=sight.rotation.wave, state=DeliveryState.WAITING)
    waiting.update(state=DeliveryState.RESTARTING, has_new=True, given_at=Now())
    Rotation.objects.filter(pk=sight.rotation.pk, promoted_at=None).update(promoted_at=errand.now)


def _fetching(sight: Sight) -> QuerySet[Delivery]:
    """Return the parts of those that nothing is written to."""
    return Delivery.objects.filter(rotation=sight.rotation, dependent__connection=None)


def _try_old(sight: Sight, errand: Errand) -> None:
    """Try the old credential again: it may have died early, and then nothing goes back to it."""
    found = saga.Old.UNKNOWN
    if sight.old is not None:
        found = saga.Old(issuing.try_again(errand, sight.old).value)
    with errand.writing():
        Rotation.objects.filter(pk=sight.rotation.pk).update(old_verdict=found)


def _revoke_old(sight: Sight, errand: Errand) -> None:
    def verified() -> None:
        services.enter(sight.rotation, State.REVOKE_VERIFIED, now=errand.now)

    _end(sight.old, errand, verified)


def _finish(sight: Sight, errand: Errand) -> None:
    pushes.tidy(sight, sight.new, errand)
    with errand.writing():
        changes.rotated(
            key_id=sight.rotation.key_id,
            request_id=sight.rotation.request_id,
            actor=errand.actor,
            now=errand.now,
        )
        services.enter(sight.rotation, State.COMPLETED, now=errand.now)
        if sight.new is not None:
            delivering.catch_up(sight.new)


def _fall_back(sight: Sight, errand: Errand) -> None:
    """Make the old version current again, and have everybody who was given the new one return."""
    with told(), errand.writing():
        if sight.seen.is_promoted and sight.old is not None:
            vault.fall_back(version_id=sight.old.pk, now=errand.now, actor=errand.actor)
        given = _fetching(sight).filter(has_new=True)
        if given.update(has_new=False, state=DeliveryState.RESTARTING) or sight.seen.is_promoted:
            Rotation.objects.filter(pk=sight.rotation.pk).update(since=Now())
    pushes.lead_back(sight, errand)


def _revoke_new(sight: Sight, errand: Errand) -> None:
    def back() -> None:
        services.enter(
            sight.rotation,
            State.ROLLED_BACK,
            cause=sight.rotation.cause,
            sentence=sight.rotation.sentence,
            now=errand.now,
        )
        if sight.old is not None and sight.seen.key_lives:
            delivering.catch_up(sight.old)

    pushes.tidy(sight, sight.old, errand)
    _end(sight.new or versions.pending(errand.key.pk), errand, back)


def _end(version: Version | None, errand: Errand, noted: Callable[[], None]) -> None:
    """End a version unless it has ended; `noted` runs in the transaction that notes the end."""
    if version is not None and not version.has_ended:
        revoking.end(errand, version, on_revoked=noted)
        return
    with errand.writing():
        noted()


_STEPS: Mapping[Step, Callable[[Sight, Errand], None]] = {
    Step.CREATE: _create,
    Step.VALIDATE: _validate,
    Step.STAGE: _stage,
    Step.PROMOTE: _promote,
    Step.TRY_OLD: _try_old,
    Step.SUSPEND_OLD: suspending.suspend,
    Step.RESUME_OLD: suspending.resume,
    Step.REVOKE_OLD: _revoke_old,
    Step.FINISH: _finish,
    Step.FALL_BACK: _fall_back,
    Step.REVOKE_NEW: _revoke_new,
}
