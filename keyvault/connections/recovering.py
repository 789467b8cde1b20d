"""What to do with a create whose answer was lost, by what the provider can do."""

from __future__ import annotations

import logging

from approvals.ports import NeedsPerson
from keyvault.connections import attempts, schedule
from keyvault.connections.calls import Work, spoken
from keyvault.connections.models import Attempt, AttemptState
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.providers import base
from keyvault.providers.base import Adopts, Issued, Recovery, RemoteKey

log = logging.getLogger(__name__)
_REPLAYED = (Recovery.CLIENT, Recovery.NAMED)
_DEAD = (AttemptState.FAILED, AttemptState.ORPHANED)


def recover(work: Work, attempt: Attempt) -> Attempt | None:
    """Return the attempt when it is to be called again, None when a new one must be planned.

    CLIENT and NAMED replay an equal attempt, which makes an equal credential.
    TAGGED, DIFF and READBACK end what the attempt left behind and begin anew:
    a value that nobody received helps nobody. With NONE only a person can tell.
    Raises NeedsPerson, Unfinished, LostClaim.
    """
    with spoken():
        recovery = work.provider.capabilities(work.call()).recovery
    if recovery in _REPLAYED:
        with work.writing():
            attempts.again(attempt, now=work.now)
        return attempt
    if recovery == Recovery.NONE:
        _wait_for_person(work, attempt)
    _withdraw(work, attempt)
    return None


def clean_up_after_losing(work: Work, attempt: Attempt, issued: Issued) -> None:
    """End a credential that arrived after another worker had given its attempt up.

    An open or finished attempt is the other worker's: its credential may be
    this very one. Whatever fails here, the inventory finds.
    """
    if attempts.state_of(attempt) not in _DEAD:
        return
    try:
        work.provider.revoke(work.call(), issued.key(), kill_sessions=True)
    except Exception as error:  # noqa: BLE001 - the claim is lost already; this is a courtesy.
        log.warning("attempt %s left a credential behind: %s", attempt.tag, type(error).__name__)


def _withdraw(work: Work, attempt: Attempt) -> None:
    planned = base.Attempt.from_json(attempt.plan, {})
    with spoken():
        found = work.provider.find(work.call(), planned)
        for remote in found:
            work.provider.revoke(work.call(), remote, kill_sessions=True)
    with work.writing():
        attempts.settle(
            attempt,
            AttemptState.FAILED if found else AttemptState.ORPHANED,
            note=_note(found),
            actor=work.actor,
            now=work.now,
        )
        # A call that is still on its way may leave a credential after this look.
        schedule.look_soon(connection_id=attempt.connection_id, now=work.now)


def _note(found: list[RemoteKey]) -> str:
    if not found:
        return "The answer was lost and nothing was found; the inventory keeps looking."
    return f"The answer was lost; {len(found)} left behind and ended: " + ", ".join(
        remote.remote_id for remote in found
    )


def _wait_for_person(work: Work, attempt: Attempt) -> None:
    if isinstance(work.provider, Adopts):
        raise NeedsPerson("intake", "Somebody must paste the new value on the key's page.")
    with work.writing():
        findings.open(
            kind=FindingKind.UNANSWERED,
            subject=attempts.subject_of(attempt),
            detail=attempt.tag,
            sentence=(
                f"The answer to creating {attempt.tag} was lost, and the provider cannot say "
                "whether it exists. Look there, and end what you find."
            ),
            now=work.now,
            actor=work.actor,
        )
    raise NeedsPerson("unanswered", f"Look for {attempt.tag} at the provider; see the finding.")
