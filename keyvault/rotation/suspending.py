"""Switch the old version off for a while and on again, and count who fails without it.

That it is being switched off is written before the call, so that whoever looks
at the provider knows by whom; how long it is off counts from the answer on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db.models.functions import Now

from approvals.ports import NeedsPerson
from keyvault.connections.calls import Errand, Work, spoken, told
from keyvault.connections.context import reach
from keyvault.providers.base import Context, Issued, NotFound, Suspends
from keyvault.rotation import evidence
from keyvault.rotation.models import Rotation
from keyvault.rotation.moves import DONE
from keyvault.rotation.saga import Progress, State
from keyvault.rotation.sight import Sight
from keyvault.vault import services as vault


def suspend(sight: Sight, errand: Errand) -> None:
    """Have the provider refuse the old version. Idempotent. Raises Unfinished, NeedsPerson, LostClaim."""
    old = sight.old
    if old is None:
        return
    with told(), errand.writing():
        vault.note_suspended(version_id=old.pk, now=errand.now, actor=errand.actor)
    errand.run.reached("suspend:asked")
    with _switch(errand, "suspend") as (provider, call), spoken():
        provider.suspend(call, Issued.from_json(old.remote, {}).key())
    errand.run.reached("suspend:called")
    with errand.writing():
        mine = Rotation.objects.filter(pk=sight.rotation.pk, state=State.BROWNOUT)
        mine.update(brownout_at=Now(), misses=0)


def resume(sight: Sight, errand: Errand) -> None:
    """Have the provider take the old version again. Idempotent. Raises as `suspend`.

    One that has ended there meanwhile counts as done: it is tried before
    anybody is led back to it.
    """
    old = sight.old
    if old is None:
        return
    with _switch(errand, "resume") as (provider, call), spoken(), suppress(NotFound):
        provider.resume(call, Issued.from_json(old.remote, {}).key())
    errand.run.reached("resume:called")
    with errand.writing():
        vault.note_resumed(version_id=old.pk, now=errand.now, actor=errand.actor)


def count(sight: Sight, *, is_used_there: bool, errand: Errand) -> None:
    """Write down how many have failed so far; the number never falls. Raises LostClaim."""
    rotation, old = sight.rotation, sight.old
    if old is None or rotation.brownout_at is None:
        return
    readers = evidence.readers_of_old(
        rotation, old.number, sight.deliveries, since=rotation.brownout_at
    )
    pairs = zip(sight.deliveries, sight.seen.parts, strict=True)
    failing = {
        one.pk
        for one, part in pairs
        if part.progress not in DONE
        or (part.progress is Progress.CONFIRMED and one.dependent.agent_id in readers)
    }
    misses = len(failing) + is_used_there
    with errand.writing():
        fewer = Rotation.objects.filter(pk=rotation.pk, state=State.BROWNOUT, misses__lt=misses)
        fewer.update(misses=misses)


@contextmanager
def _switch(errand: Errand, purpose: str) -> Iterator[tuple[Suspends, Context]]:
    """Give the provider that can switch, and the context of one call. Raises Unfinished, NeedsPerson."""
    connection = errand.key.connection
    with told(), reach(connection, actor=errand.actor, now=errand.now, purpose=purpose) as found:
        work = Work(errand.key, errand.request_id, errand.run, errand.actor, found)
        if not isinstance(work.provider, Suspends):
            raise NeedsPerson("cannot_suspend", "This provider switches no credential off and on.")
        yield work.provider, work.call()
