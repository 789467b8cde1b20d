"""Issue a credential so that a crash or a lost answer at any moment leaves one or none.

    plan (reads) -> write the attempt -> call -> store sealed -> try it -> promote

Every arrow is a transaction that is fenced by the job's claim; the calls stand
between them. Whoever takes over finds an open attempt and recovers by what the
provider can do: replay it, or find what it left, end that and begin again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from approvals.ports import Actor, LostClaim, NeedsPerson, Run, Unfinished
from keyvault.connections import attempts, places, recovering
from keyvault.connections.calls import Errand, Work, spoken, stop_for, told
from keyvault.connections.context import reach
from keyvault.connections.models import Act, Attempt, AttemptState
from keyvault.connections.revoking import revoke
from keyvault.inventory.models import Key
from keyvault.providers import base
from keyvault.providers.base import Adopts, Issued, Verdict
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault

if TYPE_CHECKING:
    from keyvault.vault.models import Version

__all__ = ["issue", "revoke"]


def issue(
    *,
    key: Key,
    request_id: UUID,
    run: Run,
    actor: Actor,
    on_promoted: Callable[[Version], None] | None = None,
) -> Version:
    """Return the version that this request issues; make it unless it exists.

    Idempotent on `request_id`. `on_promoted` runs in the transaction that makes
    the version current. Raises Unfinished when a later try may succeed,
    NeedsPerson when somebody must act first, LostClaim when another worker
    holds the job.
    """
    done = versions.promoted_by(key.pk, request_id)
    if done is not None:
        return done
    errand = Errand(key, request_id, run, actor)
    create(errand)
    return put_into_use(errand, on_promoted=on_promoted)


def create(errand: Errand) -> Version:
    """Return the pending version of a key with a credential that was tried and works.

    Idempotent: what a crash or a lost answer has left is recovered first. Its
    attempt stays open until the version is put into use or given up. Raises
    Unfinished, NeedsPerson, LostClaim.
    """
    key, run = errand.key, errand.run
    with told(), reach(key.connection, actor=errand.actor, now=run.now, purpose="create") as found:
        work = Work(key, errand.request_id, run, errand.actor, found)
        attempt, issued = _credential(work)
        _prove(work, issued)
    run.reached("create:validated")
    return versions.version(attempt.version_id)


def put_into_use(
    errand: Errand, *, on_promoted: Callable[[Version], None] | None = None
) -> Version:
    """Make the pending version current, in one transaction with what `on_promoted` writes.

    Raises Unfinished when no version is on its way, LostClaim.
    """
    attempt = attempts.open_attempt(act=Act.CREATE, key_id=errand.key.pk)
    if attempt is None:
        raise Unfinished("wrong_state", f"No version of {errand.key.name} is on its way.")
    with told(), errand.writing():
        version = vault.promote(version_id=attempt.version_id, now=errand.now, actor=errand.actor)
        attempts.settle(
            attempt, AttemptState.DONE, note="Promoted.", actor=errand.actor, now=errand.now
        )
        if on_promoted is not None:
            on_promoted(version)
    errand.run.reached("create:promoted")
    return version


def try_again(errand: Errand, version: Version) -> Verdict:
    """Try a stored credential once more and return what that showed; it changes nothing."""
    connection = errand.key.connection
    if not places.is_within_reach(version, connection):
        return Verdict.UNKNOWN
    with told(), reach(connection, actor=errand.actor, now=errand.now, purpose="validate") as found:
        work = Work(errand.key, errand.request_id, errand.run, errand.actor, found)
        issued = _stored(work, version)
        with spoken():
            return work.provider.validate(work.call(), issued).verdict


def _credential(work: Work) -> tuple[Attempt, Issued]:
    """Return an open attempt whose credential is sealed in its pending version."""
    attempt = attempts.open_attempt(act=Act.CREATE, key_id=work.key.pk)
    if attempt is not None:
        version = versions.version(attempt.version_id)
        if version.issued_at is not None:
            return attempt, _stored(work, version)
        attempt = recovering.recover(work, attempt)
        work.run.reached("create:recovered")
    if attempt is None:
        attempt = _plan(work)
        work.run.reached("create:attempted")
    issued = _call(work, attempt)
    return attempt, issued


def _plan(work: Work) -> Attempt:
    current = versions.current(work.key.pk)
    # Of an adopted value nobody may know which credential at the provider it is.
    holding = Issued.from_json(current.remote, {}) if current and current.remote else None
    pending = versions.pending(work.key.pk)
    tried = attempts.next_number(act=Act.CREATE, version_id=pending.pk) if pending else 1
    with spoken():
        planned = work.provider.prepare(work.call(), work.run.subject_id.hex, tried, holding)
    with work.writing():
        version = vault.begin(
            key_id=work.key.pk,
            request_id=work.request_id,
            now=work.now,
            actor=work.actor,
            server=places.leads_to(work.reach.connection),
        )
        return attempts.write(
            act=Act.CREATE,
            key=work.key,
            version_id=version.pk,
            request_id=work.request_id,
            planned=planned,
            provider=work.reach.label,
            run=work.run,
            actor=work.actor,
        )


def _call(work: Work, attempt: Attempt) -> Issued:
    planned = attempts.planned(attempt, actor=work.actor, now=work.now)
    try:
        issued = work.provider.create(work.call(), planned)
    except base.ProviderError as error:
        raise _after_failure(work, attempt, error) from None
    except Exception as error:  # noqa: BLE001 - see the next line.
        # A plug-in that breaks the protocol may have changed something: treat it as unanswered.
        lost = base.Ambiguous(f"The provider failed ({type(error).__name__}).")
        raise _after_failure(work, attempt, lost) from None
    work.run.reached("create:called")
    _store(work, attempt, issued)
    work.run.reached("create:stored")
    return issued


def _after_failure(work: Work, attempt: Attempt, error: base.ProviderError) -> Unfinished:
    """Note how the call failed and return what the job raises."""
    with work.writing():
        if isinstance(error, base.Ambiguous):
            attempts.unanswered(attempt, error, actor=work.actor, now=work.now)
            return stop_for(error)
        if isinstance(error, base.Unsupported) and isinstance(work.provider, Adopts):
            return NeedsPerson("intake", f"{error.sentence} Paste its value on the key's page.")
        if attempt.calls == 1:
            # The first call was certainly not applied, so nothing can be left behind.
            attempts.settle(
                attempt, AttemptState.FAILED, note=error.sentence, actor=work.actor, now=work.now
            )
    if isinstance(error, base.Conflict):
        return Unfinished(error.code, error.sentence)
    return stop_for(error)


def _store(work: Work, attempt: Attempt, issued: Issued) -> None:
    try:
        with work.writing():
            vault.store(
                version_id=attempt.version_id,
                credential=vault.Credential(
                    remote_id=issued.remote_id,
                    remote=issued.to_json(),
                    public=issued.public,
                    material=issued.material,
                    expires_at=issued.expires_at,
                ),
                provider=work.reach.label,
                now=work.now,
                actor=work.actor,
            )
    except LostClaim:
        recovering.clean_up_after_losing(work, attempt, issued)
        raise


def _stored(work: Work, version: Version) -> Issued:
    material = vault.open_material(
        version_id=version.pk, actor=work.actor, now=work.now, purpose="validate"
    )
    return Issued.from_json(version.remote, material)


def _prove(work: Work, issued: Issued) -> None:
    """Try the credential once. Only a clear VALID goes on; nothing here takes it back."""
    with spoken():
        is_by_hand = work.provider.capabilities(work.call()).is_all_by_hand
        found = work.provider.validate(work.call(), issued)
    if found.verdict == Verdict.VALID or (is_by_hand and found.verdict == Verdict.UNKNOWN):
        return
    if found.verdict == Verdict.INVALID:
        raise Unfinished("invalid", f"The new credential does not work yet. {found.detail}")
    raise Unfinished("unproved", f"The new credential could not be tried. {found.detail}")
