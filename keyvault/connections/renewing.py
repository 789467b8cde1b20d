"""The job that renews a Connection's own admin credential.

    plan (reads, seals the new value) -> call -> ask for both -> put in use -> check -> end the old

Every arrow is a transaction that is fenced by the job's claim; the calls stand
between them, and no other work with the credential runs meanwhile. Whoever takes
over after a crash or a lost answer asks the provider with both values, and goes on
from what it says; nothing is concluded from silence.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from uuid import UUID

from django.db import transaction

from approvals import queue
from approvals.ports import CannotExecute, Later, LostClaim, NeedsPerson, Run, Unfinished
from keyvault.connections import context, renewals, turns
from keyvault.connections.calls import spoken, stop_for, told
from keyvault.connections.context import NEITHER, place_of
from keyvault.connections.models import Connection, Renewal, RenewalState
from keyvault.connections.renewal_work import (
    Work,
    require_ready,
    require_refused,
    require_valid,
    unclear,
)
from keyvault.crypto.secret import Secret
from keyvault.providers import base, registry
from keyvault.providers.base import RenewsAdmin, Shape, Verdict
from keyvault.vault import sealing

log = logging.getLogger(__name__)
_AGAIN_S, _BUSY_S = 1.0, 5.0


@queue.handler(renewals.JOB)
def run(renewal_id: UUID, run: Run) -> None:
    """Move one renewal as far as it goes now. Raises Later, Unfinished, LostClaim."""
    found = renewals.by_id(renewal_id)
    if found is None:
        return
    try:
        with told(), turns.alone(found.connection_id):
            while _step(renewal_id, run):
                pass
    except renewals.WrongMoment:
        # A person was faster than this look; the next one sees what they chose.
        raise Later(_AGAIN_S) from None
    except Unfinished as stop:
        if stop.code == "busy":
            # It waits its turn at the Connection, which is no fault of this renewal.
            raise Later(_BUSY_S) from None
        _after_failure(renewal_id, run, stop)


def _step(renewal_id: UUID, run: Run) -> bool:
    """Make one step; say whether there may be another."""
    renewal = renewals.by_id(renewal_id)
    if renewal is None or not renewal.is_open or renewal.held_at is not None:
        return False
    plugin = registry.provider(renewal.connection.provider)
    if not isinstance(plugin, RenewsAdmin):
        raise NeedsPerson("no_plugin", "Its provider renews no admin credentials any more.")
    work = Work(renewal, run, plugin, plugin)
    try:
        _STEPS[RenewalState(renewal.state)](work)
    finally:
        for material in work.opened.values():
            context.zero(material)
    return True


def _plan(work: Work) -> None:
    """See that all is well, choose the new value and seal it; nothing is changed out there."""
    require_ready(work, work.old)
    found = require_valid(work, work.old)
    with spoken():
        planned = work.renews.prepare_admin(
            work.call(work.old), work.renewal.pk.hex, work.renewal.attempt
        )
    if planned.material:
        require_refused(work.asked(planned.material))
    with work.writing():
        # First the renewal, then its value: the order of whoever types a new credential meanwhile.
        renewals.enter(
            work.renewal,
            RenewalState.CALLING,
            now=work.run.now,
            plan=planned.to_json(),
            principal=found.principal,
            fingerprint=sealing.fingerprint(planned.material) if planned.material else "",
            calls=0,
        )
        if planned.material:
            sealing.put(place_of(work.connection.pk, work.new), planned.material, now=work.run.now)
    work.run.reached("renew:planned")


def _make(work: Work) -> None:
    """Have the new credential made, unless the provider takes it already, and put it in use."""
    if not work.value(work.new) and work.renewal.calls:
        _withdraw(work)
        return
    if not _is_made(work):
        _create(work)
    found = require_valid(work, work.new)
    if found.principal != work.renewal.principal:
        raise NeedsPerson("other_account", "The new credential belongs to another account.")
    if work.can().shape is not Shape.REPLACE:
        # Where the old one has ended already, the new one is all there is.
        require_ready(work, work.new)
    work.run.reached("renew:proved")
    _put_in_use(work)
    work.run.reached("renew:in_use")


def _is_made(work: Work) -> bool:
    """Say what the provider says: it takes the new credential, or still the old one alone."""
    if not work.value(work.new):
        return False
    verdict = work.tried(work.new).verdict
    if verdict is Verdict.VALID:
        return True
    if verdict is Verdict.UNKNOWN:
        raise unclear()
    if not work.is_replayed:
        raise Unfinished("invalid", "The new admin credential does not work yet.")
    old = work.tried(work.old).verdict
    if old is Verdict.UNKNOWN:
        raise unclear()
    if old is Verdict.INVALID:
        raise NeedsPerson("neither", NEITHER)
    return False


def _create(work: Work) -> None:
    """Call the provider once, with the call written down before."""
    with work.writing():
        renewals.called(work.renewal, now=work.run.now)
    work.run.reached("renew:announced")
    planned = base.Attempt.from_json(work.renewal.plan, work.value(work.new))
    try:
        material = work.renews.create_admin(work.call(work.old), planned)
    except base.ProviderError as error:
        _after_refusal(work, error)
        raise stop_for(error) from None
    except Exception as error:  # noqa: BLE001 - a plug-in that breaks the protocol may have changed something.
        raise Unfinished("fault", f"The provider failed ({type(error).__name__}).") from None
    work.run.reached("renew:called")
    if not work.is_replayed:
        _store(work, material)
        work.opened.pop(work.new, None)
        work.run.reached("renew:stored")


def _after_refusal(work: Work, error: base.ProviderError) -> None:
    """Go back to the plan where the one call has certainly left nothing, and a person must act."""
    is_certain = work.renewal.calls == 1 and not isinstance(error, base.Ambiguous | base.Transient)
    if is_certain:
        with work.writing():
            _plan_anew(work, error.sentence)


def _withdraw(work: Work) -> None:
    """End what a call has made whose answer nobody has, and begin anew."""
    planned = base.Attempt.from_json(work.renewal.plan, {})
    with spoken():
        work.renews.withdraw_admin(work.call(work.old), planned)
    with work.writing():
        _plan_anew(work, "The answer was lost; what it may have left was ended.")
    work.run.reached("renew:withdrawn")


def _plan_anew(work: Work, sentence: str) -> None:
    sealing.remove(place_of(work.connection.pk, work.new))
    renewals.enter(
        work.renewal,
        RenewalState.PLANNED,
        now=work.run.now,
        sentence=sentence,
        attempt=work.renewal.attempt + 1,
        fingerprint="",
        calls=0,
    )


def _store(work: Work, material: Mapping[str, Secret]) -> None:
    """Seal a value that the provider has chosen, or end it where this try has lost its claim."""
    try:
        with work.writing():
            sealing.put(place_of(work.connection.pk, work.new), material, now=work.run.now)
            Renewal.objects.filter(pk=work.renewal.pk).update(
                fingerprint=sealing.fingerprint(material)
            )
            work.renewal.refresh_from_db(fields=["fingerprint"])
    except LostClaim:
        try:
            work.renews.revoke_admin(work.call(work.old), material)
        except Exception as error:  # noqa: BLE001 - the claim is lost already; this is a courtesy.
            log.warning("a renewal left a credential behind: %s", type(error).__name__)
        raise


def _put_in_use(work: Work) -> None:
    """Make the new credential the Connection's own, in one transaction under its row lock."""
    with work.writing():
        row = Connection.objects.select_for_update().get(pk=work.connection.pk)
        if row.credential_number != work.old:
            raise renewals.WrongMoment("The credential was replaced meanwhile.")
        Connection.objects.filter(pk=row.pk).update(
            credential_number=work.new,
            credential_fingerprint=work.renewal.fingerprint,
            credential_at=work.run.now,
        )
        renewals.enter(work.renewal, RenewalState.IN_USE, now=work.run.now, in_use_at=work.run.now)


def _retire(work: Work) -> None:
    """Check the Connection with the new credential, then end the old one and prove it."""
    require_ready(work, work.new)
    require_valid(work, work.new)
    if work.value(work.old):
        with spoken():
            work.renews.revoke_admin(work.call(work.new), work.value(work.old))
        require_refused(work.tried(work.old))
    work.run.reached("renew:revoked")
    with work.writing():
        sealing.remove(place_of(work.connection.pk, work.old))
        renewals.enter(work.renewal, RenewalState.DONE, now=work.run.now)
    work.run.reached("renew:done")


def _after_failure(renewal_id: UUID, run: Run, stop: Unfinished) -> None:
    """Hold the renewal when trying again cannot help; otherwise let the job back off."""
    if not (run.is_last or isinstance(stop, NeedsPerson | CannotExecute)):
        raise stop
    renewal = renewals.by_id(renewal_id)
    if renewal is not None:
        with transaction.atomic(durable=True):
            run.fence()
            renewals.hold(renewal, stop.sentence, now=run.now)


_STEPS = {
    RenewalState.PLANNED: _plan,
    RenewalState.CALLING: _make,
    RenewalState.IN_USE: _retire,
}
