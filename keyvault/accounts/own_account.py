"""What a person does to the own account, each behind a fresh second factor."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.contrib.auth.hashers import check_password
from django.contrib.auth.password_validation import validate_password
from django.db import transaction

from approvals import digests
from keyvault.accounts import factors, lockout, selectors, services
from keyvault.accounts.models import User
from keyvault.accounts.presence import Presence

REPLACE_WITHIN = timedelta(minutes=10)
RECOVERY, REPLACE = "recovery_codes.issue", "factor.replace"


class WrongPassword(lockout.Rejected):
    """The current password is not right."""


def digest(act: str, user: User) -> str:
    """Return what a step-up for an act on the own account is bound to."""
    return digests.act_digest(kind=act, person=str(user.pk))


def new_recovery_codes(*, user: User, proof_id: UUID, now: datetime) -> list[str]:
    """Replace the recovery codes and return the new ones, to show once. Raises NotPresent."""
    with transaction.atomic(durable=True):
        _consume(RECOVERY, user, proof_id, now=now)
        return factors.replace_recovery(user=user, now=now)


def begin_replacement(*, user: User, proof_id: UUID, now: datetime) -> None:
    """Let the person enrol another authenticator for ten minutes. Raises NotPresent.

    The old one works until the new one is confirmed.
    """
    with transaction.atomic(durable=True):
        _consume(REPLACE, user, proof_id, now=now)
        person = User.objects.select_for_update().get(pk=user.pk)
        person.may_enrol_until = now + REPLACE_WITHIN
        person.save(update_fields=["may_enrol_until"])


def may_replace(user: User, *, now: datetime) -> bool:
    """Say whether a step-up has opened the replacement of the authenticator."""
    until = user.may_enrol_until
    return until is not None and now < until and selectors.is_enrolled(user)


def change_password(
    *, user: User, current: str, password: str, code: str, ip: str, now: datetime
) -> None:
    """Change the password after the current one and a fresh code; every session ends.

    Both are asked for in one form, so that no page has to carry a password on.
    Raises WrongPassword, ValidationError, BadCode, CodeUsed, LockedOut.
    """
    validate_password(password, user)
    with lockout.attempt(username=user.username, ip=ip, now=now):
        if not check_password(current, user.password):
            raise WrongPassword("That is not your current password.")
    factors.verify(user=user, code=code, ip=ip, now=now)
    with transaction.atomic(durable=True):
        person = User.objects.select_for_update().get(pk=user.pk)
        services.change_password(
            user=person, password=password, now=now, actor=selectors.actor(user)
        )


def end_sessions(*, user: User, now: datetime) -> None:
    """Sign the person out everywhere, here as well."""
    with transaction.atomic(durable=True):
        person = User.objects.select_for_update().get(pk=user.pk)
        services.end_sessions(user=person, now=now, actor=selectors.actor(user))


def _consume(act: str, user: User, proof_id: UUID, *, now: datetime) -> None:
    Presence().consume(proof_id, person_id=user.pk, digest=digest(act, user), now=now)
