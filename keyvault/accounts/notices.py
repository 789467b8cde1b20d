"""Tell a person that somebody, perhaps not they, touched the second factor of their account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.urls import reverse

from approvals import ports, queue
from keyvault.accounts import letters
from keyvault.accounts.devices import RecoveryCode
from keyvault.accounts.models import User

FACTOR_RESET, CODE_USED = "person.tell_factor_reset", "person.tell_code_used"
SHOWN_FOR = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened to an account, and when."""

    sentence: str
    at: datetime


def promise(kind: str, user: User) -> None:
    """Promise a mail, in the transaction of what it tells of."""
    queue.enqueue(kind=kind, subject_id=user.pk)


def recent(user: User, *, now: datetime) -> list[Notice]:
    """Return what happened to the factors of a person in the last week, newest first."""
    found = []
    changed = user.factor_changed_at
    if changed and changed > now - SHOWN_FOR:
        found.append(Notice("Your second factor was reset or replaced.", changed))
    used = RecoveryCode.objects.filter(sheet__user=user, used_at__gt=now - SHOWN_FOR)
    found += [
        Notice("One of your recovery codes was used to sign in.", code.used_at)
        for code in used
        if code.used_at
    ]
    return sorted(found, key=lambda notice: notice.at, reverse=True)


@queue.handler(FACTOR_RESET)
def tell_of_reset(person_id: UUID, _run: ports.Run) -> None:
    """Mail the person whose factor was reset. Raises Unfinished."""
    letters.send(
        people=[person_id],
        subject="Your second factor was reset",
        sentence="Your second factor was reset and you were signed out everywhere. "
        "If you did not expect this, speak to an administrator now.",
        page=reverse("account"),
    )


@queue.handler(CODE_USED)
def tell_of_code(person_id: UUID, _run: ports.Run) -> None:
    """Mail the person whose recovery code was used. Raises Unfinished."""
    letters.send(
        people=[person_id],
        subject="A recovery code of yours was used",
        sentence="Somebody signed in to your account with a recovery code. "
        "If it was not you, change the password and speak to an administrator now.",
        page=reverse("account"),
    )
