"""Revoke every live version of a key, and prove that the provider that issued it refuses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from approvals.ports import Actor, NeedsPerson, Run, Unfinished
from keyvault.connections import attempts, places, schedule
from keyvault.connections.calls import Errand, Work, spoken, stop_for, told
from keyvault.connections.context import reach
from keyvault.connections.models import Act, Attempt, AttemptState
from keyvault.inventory.models import Key
from keyvault.providers import base, registry
from keyvault.providers.base import Instructs, Issued, Verdict, tag_of
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault

if TYPE_CHECKING:
    from keyvault.vault.models import Version


def revoke(
    *,
    key: Key,
    request_id: UUID,
    run: Run,
    actor: Actor,
    kill_sessions: bool = True,
    on_revoked: Callable[[], None] | None = None,
) -> None:
    """End every version of a key that a provider may accept. Idempotent.

    A crash anywhere repeats a call that does nothing the second time. The
    transaction that notes the last revocation runs `on_revoked`. A version that
    was issued at a server where the Connection does not lead any more, or was
    adopted without its id, is left to a person, after all others have ended. Raises Unfinished, NeedsPerson,
    LostClaim.
    """
    errand = Errand(key, request_id, run, actor)
    with told():
        order = _order(key)
    for version in order:
        closing = on_revoked if version == order[-1] else None
        end(errand, version, kill_sessions=kill_sessions, on_revoked=closing)


def end(
    errand: Errand,
    version: Version,
    *,
    kill_sessions: bool = True,
    on_revoked: Callable[[], None] | None = None,
) -> None:
    """End one version at the provider that issued it and prove that it is refused. Idempotent.

    `on_revoked` runs in the transaction that notes it. Raises Unfinished,
    NeedsPerson, LostClaim.
    """
    with told():
        if not places.is_within_reach(version, errand.key.connection):
            _leave_to_person(errand, version, on_revoked)
            return
        connection, run = errand.key.connection, errand.run
        with reach(connection, actor=errand.actor, now=run.now, purpose="revoke") as reached:
            work = Work(errand.key, errand.request_id, run, errand.actor, reached)
            _revoke(work, version, kill_sessions=kill_sessions, on_revoked=on_revoked)


def _order(key: Key) -> list[Version]:
    """Return the live versions: what is begun first, then what can be called, then the rest.

    One attempt of a key is open at a time, and what waits for a person must
    not keep alive what a call can end.
    """
    begun = attempts.open_attempt(act=Act.REVOKE, key_id=key.pk)

    def rank(version: Version) -> tuple[bool, bool]:
        is_begun = begun is not None and begun.version_id == version.pk
        return not is_begun, not places.is_within_reach(version, key.connection)

    return sorted(versions.live(key.pk), key=rank)


def _leave_to_person(
    errand: Errand, version: Version, on_revoked: Callable[[], None] | None
) -> None:
    """Note the end of a version that is out of reach once a person has confirmed it.

    Nothing is called and nothing is tried here: the server of now can neither
    end it nor tell, and the value is no business of it.
    """
    label = registry.registered(errand.key.connection.provider).label
    attempt = _attempt(errand, version, label)
    errand.run.reached("revoke:attempted")
    if not attempt.confirmed_by:
        code = "by_hand" if version.is_nameless else "server_changed"
        raise NeedsPerson(code, places.out_of_reach(version, errand.key.connection))
    cause = f"ended by hand at {places.named(version.server)}, confirmed by {attempt.confirmed_by}"
    _note(errand, version, attempt, cause=cause, on_revoked=on_revoked)
    errand.run.reached("revoke:recorded")


def _revoke(
    work: Work,
    version: Version,
    *,
    kill_sessions: bool,
    on_revoked: Callable[[], None] | None,
) -> None:
    if not version.remote_id:
        _abandon(work, version, on_revoked)
        return
    attempt = _attempt(work, version, work.reach.label)
    work.run.reached("revoke:attempted")
    if not attempt.confirmed_by:
        _call(work, version, attempt, kill_sessions=kill_sessions)
    work.run.reached("revoke:called")
    _prove_dead(work, version)
    work.run.reached("revoke:verified")
    _note(work, version, attempt, cause="revoked at the provider", on_revoked=on_revoked)
    work.run.reached("revoke:recorded")


def _call(work: Work, version: Version, attempt: Attempt, *, kill_sessions: bool) -> None:
    issued = Issued.from_json(version.remote, {})
    try:
        work.provider.revoke(work.call(), issued.key(), kill_sessions=kill_sessions)
    except base.NotFound:
        pass  # What does not exist there can no longer be used.
    except base.ProviderError as error:
        raise _after_failure(work, attempt, error) from None
    except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way.
        raise Unfinished("fault", f"The provider failed ({type(error).__name__}).") from None


def _attempt(errand: Errand, version: Version, provider: str) -> Attempt:
    found = attempts.open_attempt(act=Act.REVOKE, key_id=errand.key.pk)
    with errand.writing():
        if found is not None and found.version_id == version.pk:
            attempts.again(found, now=errand.now)
            return found
        number = attempts.next_number(act=Act.REVOKE, version_id=version.pk)
        return attempts.write(
            act=Act.REVOKE,
            key=errand.key,
            version_id=version.pk,
            request_id=errand.request_id,
            planned=base.Attempt(
                errand.run.subject_id.hex,
                number,
                version.remote.get("tag") or tag_of("revoke", number),
            ),
            provider=provider,
            run=errand.run,
            actor=errand.actor,
        )


def _after_failure(work: Work, attempt: Attempt, error: base.ProviderError) -> Unfinished:
    if isinstance(error, base.Unsupported) and isinstance(work.provider, Instructs):
        # Nothing was called, so there is no answer to miss.
        return NeedsPerson(
            "by_hand", f"{error.sentence} Confirm on the key's page when it is done."
        )
    with work.writing():
        attempts.unanswered(attempt, error, actor=work.actor, now=work.now)
    return stop_for(error)


def _prove_dead(work: Work, version: Version) -> None:
    """Try the old credential: only a refusal, or nobody able to tell, lets the work go on."""
    material = vault.open_material(
        version_id=version.pk, actor=work.actor, now=work.now, purpose="validate"
    )
    issued = Issued.from_json(version.remote, material)
    with spoken():
        found = work.provider.validate(work.call(), issued)
    if found.verdict == Verdict.VALID:
        raise Unfinished("still_valid", f"Version {version.number} still works. {found.detail}")


def _note(
    errand: Errand,
    version: Version,
    attempt: Attempt,
    *,
    cause: str,
    on_revoked: Callable[[], None] | None,
) -> None:
    with errand.writing():
        vault.mark_revoked(
            version_id=version.pk,
            cause=cause,
            now=errand.now,
            actor=errand.actor,
            request_id=errand.request_id,
        )
        attempts.settle(
            attempt, AttemptState.DONE, note="Revoked.", actor=errand.actor, now=errand.now
        )
        _give_up_create(errand, version)
        if on_revoked is not None:
            on_revoked()


def _give_up_create(errand: Errand, version: Version) -> None:
    """Settle the create of a version that ended before it was put into use."""
    create = attempts.open_attempt(act=Act.CREATE, key_id=errand.key.pk)
    if create is not None and create.version_id == version.pk:
        note = "Revoked before it was put into use."
        attempts.settle(create, AttemptState.FAILED, note=note, actor=errand.actor, now=errand.now)


def _abandon(work: Work, version: Version, on_revoked: Callable[[], None] | None) -> None:
    """Give up a version whose create never answered; the inventory ends what it left."""
    with work.writing():
        attempt = attempts.open_attempt(act=Act.CREATE, key_id=work.key.pk)
        if attempt is not None:
            attempts.settle(
                attempt,
                AttemptState.ORPHANED,
                note="The key was revoked first.",
                actor=work.actor,
                now=work.now,
            )
        vault.destroy(
            version_id=version.pk,
            cause="revoked before it was issued",
            now=work.now,
            actor=work.actor,
            request_id=work.request_id,
        )
        schedule.look_soon(connection_id=work.key.connection_id, now=work.now)
        if on_revoked is not None:
            on_revoked()
