"""What the acts on people share: how a person is named to approvers, and who sees such a request."""

from __future__ import annotations

import hashlib
from uuid import UUID

from approvals.ports import Actor, Subject
from keyvault.accounts import gates, selectors
from keyvault.accounts.models import ADMINISTRATORS, AUDITORS, User

WORKER = Actor("system", "worker", "Worker")


def target(user: User) -> Subject:
    """Return the person as the target of a plan, with the user name that tells namesakes apart."""
    return Subject("person", str(user.pk), f"{user} ({user.username})")


def fingerprint(*facts: str) -> str:
    """Return 16 hex characters that differ where an id or a name does; nothing secret goes in."""
    return hashlib.sha256("\x00".join(("keyvault.person", *facts)).encode()).hexdigest()[:16]


def of(user: User) -> str:
    """Return the fingerprint of a person."""
    return fingerprint(str(user.pk), user.username, user.email_key)


def sees(person_id: UUID, *concerned: UUID) -> bool:
    """Say whether somebody may see a request about people: the concerned and those on duty."""
    return person_id in concerned or selectors.has_role(
        selectors.user(person_id), ADMINISTRATORS, AUDITORS
    )


def require_asker(person: User, *, about: UUID | None = None) -> None:
    """Raise gates.MissingRight unless an administrator asks, or a person about themselves."""
    if person.pk != about and not selectors.has_role(person, ADMINISTRATORS):
        raise gates.MissingRight((ADMINISTRATORS,))
