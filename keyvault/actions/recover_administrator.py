"""Let the host open the way back in for an administrator who lost the second factor.

Whoever holds the key-encryption key and a shell may ask. Everybody is told, a
day passes in which any administrator can stop it, and only then is the factor
reset and a one-time enrolment opened. The waiting job is the one record that a
recovery is under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, queue
from approvals.ports import Actor
from keyvault.accounts import gates, invitations, letters, selectors, services
from keyvault.accounts.models import ADMINISTRATORS, Invitation, User
from keyvault.accounts.presence import Presence
from keyvault.audit import ledger
from keyvault.vault import seals

RECOVER, TELL = "administrator.recover", "administrator.recover_tell"
WAIT = timedelta(hours=24)
HOST = Actor("system", "host", "The terminal of this host")


class CannotRecover(Exception):
    """The recovery cannot be asked for or opened; the message says why and the mend."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A recovery that waits: whose, and from when on it opens."""

    person: User
    opens_at: datetime


def ask(*, username: str, now: datetime) -> Waiting:
    """Begin the wait, or return the one under way. Raises CannotRecover.

    The key-encryption key is what tells the owner of the host from somebody
    with the database's password alone.
    """
    state = seals.seal_state()
    if state.is_sealed:
        raise CannotRecover(f"This takes the key-encryption key. {state.sentence}")
    person = _administrator(username)
    under_way = [found for found in waiting() if found.person == person]
    if under_way:
        return under_way[0]
    opens_at = now + WAIT
    with transaction.atomic(durable=True):
        queue.enqueue(kind=RECOVER, subject_id=person.pk, due_at=opens_at)
        queue.enqueue(kind=TELL, subject_id=person.pk)
        ledger.record(
            "recovery.asked",
            actor=HOST,
            subject=selectors.subject(person),
            now=now,
            fields={"opens_at": opens_at.isoformat()},
        )
    return Waiting(person, opens_at)


def waiting() -> list[Waiting]:
    """Return the recoveries that have not opened yet."""
    return [
        Waiting(selectors.user(person_id), due_at)
        for person_id, due_at in queue.open_jobs(kind=RECOVER)
    ]


def digest(person_id: UUID) -> str:
    """Return what the step-up of a cancellation is bound to."""
    return digests.act_digest(kind="recovery.cancel", person=str(person_id))


def cancel(*, person_id: UUID, by: User, proof_id: UUID, now: datetime) -> None:
    """Stop a recovery before it opens. Raises MissingRight, NotPresent, queue.NotOpen."""
    if not selectors.has_role(by, ADMINISTRATORS):
        raise gates.MissingRight((ADMINISTRATORS,))
    with transaction.atomic(durable=True):
        Presence().consume(proof_id, person_id=by.pk, digest=digest(person_id), now=now)
        queue.cancel(kind=RECOVER, subject_id=person_id)
        ledger.record(
            "recovery.cancelled",
            actor=selectors.actor(by),
            subject=selectors.subject(selectors.user(person_id)),
            now=now,
        )


@queue.handler(TELL)
def tell(person_id: UUID, _run: ports.Run) -> None:
    """Mail every enrolled person while the recovery waits. Raises Unfinished."""
    for found in waiting():
        if found.person.pk == person_id:
            letters.send(
                people=selectors.enrolled_ids(),
                subject=f"Recovery of {found.person} was asked for",
                sentence=(
                    f"Somebody on the host asked to reset the second factor of {found.person}. "
                    f"It happens at {found.opens_at:%d %b %Y %H:%M} UTC unless an administrator "
                    "cancels it on the System page."
                ),
                page=reverse("system"),
            )


@queue.handler(RECOVER)
def recover(person_id: UUID, run: ports.Run) -> None:
    """Reset the factor and open one enrolment, after the wait. Raises CannotExecute."""
    person = selectors.user(person_id)
    if not (person.is_active and selectors.has_role(person, ADMINISTRATORS)):
        raise ports.CannotExecute("not_administrator", f"{person} is no administrator any more.")
    with transaction.atomic(durable=True):
        run.fence()
        services.reset_factor(user=person, now=run.now, actor=HOST)
        invitations.invite_to_enrol(user=person, invited_by=person, now=run.now)
        ledger.record("recovery.opened", actor=HOST, subject=selectors.subject(person), now=run.now)


def open_enrolment(*, username: str, now: datetime) -> tuple[Invitation, str] | None:
    """Return the enrolment that a recovery opened, with a new code, or None before.

    Such an invitation names the person as their own inviter, and no request: no other way
    makes one.
    """
    person = _administrator(username)
    found = (
        selectors.open_invitations().filter(user=person, invited_by=person, request_id=None).first()
    )
    if found is None or found.expires_at <= now or seals.seal_state().is_sealed:
        return None
    return invitations.show_code(invitation_id=found.pk, person=person, now=now, actor=HOST)


def _administrator(username: str) -> User:
    try:
        person = selectors.user_by_username(username)
    except ports.NotVisible:
        raise CannotRecover(f"There is no account {username}.") from None
    if not (person.is_active and selectors.has_role(person, ADMINISTRATORS)):
        raise CannotRecover(f"{person} is not an active administrator; others reset that factor.")
    return person
