"""Enrol, check and replace second factors; hand out recovery codes.

The only door to the tables in `devices.py`. Checks go through
`django_otp.verify_token`, behind the shared lockout.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime

import django_otp
from django.db import transaction

from keyvault.accounts import administrators, codes, lockout, notices, selectors, totp
from keyvault.accounts.devices import RecoveryCode, RecoverySheet, TOTPDevice
from keyvault.accounts.models import User
from keyvault.audit import ledger
from keyvault.crypto.secret import Secret

RECOVERY_CODES = 10
ISSUER = "keyvault"


class BadCode(lockout.Rejected):
    """The code is wrong, malformed, or the person has no such factor."""


class CodeUsed(Exception):
    """The code is right but was used already; a new one shows in `next_in_s` seconds."""

    def __init__(self, next_in_s: int) -> None:
        super().__init__(f"That code was already used. Next one in {next_in_s} s.")
        self.next_in_s = next_in_s


class MayNotEnrol(Exception):
    """Enrolling takes an invitation or an approved reset, never a password alone."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app must be told: the address for the QR code, and the seed as text."""

    address: str
    seed_groups: tuple[str, ...]


def verify(*, user: User, code: str, ip: str, now: datetime) -> TOTPDevice:
    """Spend one code of the person's authenticator. Raises BadCode, CodeUsed, LockedOut."""
    with lockout.attempt(username=user.username, ip=ip, now=now):
        device = TOTPDevice.objects.filter(user=user, confirmed=True).first()
        if device is None:
            raise BadCode("no authenticator")
        return _spend(device, user=user, code=code, now=now)


def _spend(device: TOTPDevice, *, user: User, code: str, now: datetime) -> TOTPDevice:
    if not totp.well_formed(code):
        raise BadCode("not six digits")
    accepted = django_otp.verify_token(user, device.persistent_id, code)
    if isinstance(accepted, TOTPDevice):
        return accepted
    if device.match(code, unix_s=now.timestamp()):
        raise CodeUsed(totp.seconds_left(now.timestamp()))
    raise BadCode("wrong code")


def verify_recovery(*, user: User, code: str, ip: str, now: datetime) -> RecoverySheet:
    """Spend one recovery code. Raises BadCode, LockedOut; no factor's count is cleared."""
    with lockout.attempt(username=user.username, ip=ip, now=now):
        sheet = RecoverySheet.objects.filter(user=user, confirmed=True).first()
        if sheet is None:
            raise BadCode("no recovery codes")
        with transaction.atomic():
            if django_otp.verify_token(user, sheet.persistent_id, code) is None:
                raise BadCode("wrong recovery code")
            ledger.record(
                "recovery_code.used",
                actor=selectors.actor(user),
                subject=selectors.subject(user),
                now=now,
                fields={"left": sheet.codes.filter(used_at=None).count()},
            )
            notices.promise(notices.CODE_USED, user)
        return sheet


def may_enrol(user: User, *, now: datetime) -> bool:
    """Say whether an accepted invitation lets this person enrol a first factor now."""
    until = user.may_enrol_until
    return until is not None and now < until and not selectors.is_enrolled(user)


def begin(*, user: User, now: datetime) -> Enrolment:
    """Return the seed to enrol, the same one until it is confirmed.

    Raises keyring.NoKey on a sealed start.
    """
    with transaction.atomic():
        # The row of the person is what two tabs that both begin wait for.
        User.objects.select_for_update().get(pk=user.pk)
        device = TOTPDevice.objects.filter(user=user, confirmed=False).first()
        if device is None:
            device = TOTPDevice(user=user, name="Authenticator", confirmed=False, created_at=now)
            device.seal(Secret.of(secrets.token_bytes(totp.SEED_BYTES)))
            device.save()
    return _enrolment(user, device)


def _enrolment(user: User, device: TOTPDevice) -> Enrolment:
    text = base64.b32encode(device.seed().reveal()).decode()
    # Key URI format of Google Authenticator; a user name holds no reserved character.
    address = f"otpauth://totp/{ISSUER}:{user.username}?secret={text}&issuer={ISSUER}"
    return Enrolment(address, tuple(text[at : at + 4] for at in range(0, len(text), 4)))


def confirm(*, user: User, code: str, ip: str, now: datetime) -> tuple[TOTPDevice, list[str]]:
    """Prove the app with one code, put it in force and return ten recovery codes to show once.

    An app that was in force before is removed, and deciding is barred for
    24 h. Raises BadCode, CodeUsed, LockedOut, and MayNotEnrol unless an
    invitation or a step-up has opened enrolment and `begin` was called.
    """
    pending = TOTPDevice.objects.filter(user=user, confirmed=False).first()
    if pending is None or user.may_enrol_until is None or now >= user.may_enrol_until:
        raise MayNotEnrol("nothing was begun, or too long ago")
    with lockout.attempt(username=user.username, ip=ip, now=now):
        _spend(pending, user=user, code=code, now=now)
    with transaction.atomic(durable=True):
        administrators.lock()
        device = TOTPDevice.objects.select_for_update().get(pk=pending.pk, confirmed=False)
        replaced, _ = TOTPDevice.objects.filter(user=user, confirmed=True).delete()
        device.confirmed, device.confirmed_at = True, now
        device.save(update_fields=["confirmed", "confirmed_at"])
        _settle_person(user, is_change=replaced > 0, now=now)
        _record_enrolment(user, is_change=replaced > 0, now=now)
        return device, _issue_recovery(user, now=now)


def _settle_person(user: User, *, is_change: bool, now: datetime) -> None:
    person = User.objects.select_for_update().get(pk=user.pk)
    person.may_enrol_until = None
    if is_change or person.factor_changed_at:
        person.factor_changed_at = now  # After a reset the bar counts from the new factor.
    person.save(update_fields=["may_enrol_until", "factor_changed_at"])


def _record_enrolment(user: User, *, is_change: bool, now: datetime) -> None:
    actor = selectors.actor(user)
    ledger.record(
        "factor.replaced" if is_change else "factor.enrolled",
        actor=actor,
        subject=selectors.subject(user),
        now=now,
        fields={"method": "totp"},
    )
    administrators.leave_solo_if_two(actor=actor, now=now)


def install(*, user: User, seed: Secret, now: datetime) -> TOTPDevice:
    """Put an authenticator with a known seed in force, inside the caller's transaction.

    For the people of the demo and of the tests, who have no phone.
    """
    administrators.lock()
    device = TOTPDevice(
        user=user, name="Authenticator", confirmed=True, created_at=now, confirmed_at=now
    )
    device.seal(seed)
    device.save()
    _record_enrolment(user, is_change=False, now=now)
    return device


def discard(*, user: User) -> None:
    """Remove a person's factors, inside the caller's transaction; the caller records why."""
    TOTPDevice.objects.filter(user=user).delete()
    RecoverySheet.objects.filter(user=user).delete()


def issue_recovery(*, user: User, now: datetime) -> list[str]:
    """Replace a person's recovery codes and return the new ones, to show once."""
    with transaction.atomic(durable=True):
        return replace_recovery(user=user, now=now)


def replace_recovery(*, user: User, now: datetime) -> list[str]:
    """Do the same inside the caller's transaction."""
    User.objects.select_for_update().get(pk=user.pk)
    fresh = _issue_recovery(user, now=now)
    ledger.record(
        "recovery_codes.issued",
        actor=selectors.actor(user),
        subject=selectors.subject(user),
        now=now,
        fields={"count": len(fresh)},
    )
    return fresh


def _issue_recovery(user: User, *, now: datetime) -> list[str]:
    """Store a sheet in force at once: a person who closes the page has lost only the text."""
    sheet, _ = RecoverySheet.objects.update_or_create(
        user=user, defaults={"name": "Recovery codes", "created_at": now, "confirmed_at": None}
    )
    sheet.codes.all().delete()
    fresh = [codes.new() for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.bulk_create(
        RecoveryCode(
            sheet=sheet,
            number=number,
            digest=codes.digest(code, purpose="recovery", owner=str(user.pk)),
        )
        for number, code in enumerate(fresh, start=1)
    )
    return fresh


def prove_copied(*, user: User, number: int, typed: str, now: datetime) -> None:
    """Take a recovery code typed back as proof that the sheet was kept. Raises BadCode.

    It is a copy check and spends nothing; the page asked for code `number`.
    """
    digest = codes.digest(typed, purpose="recovery", owner=str(user.pk))
    sheets = RecoverySheet.objects.filter(user=user, codes__number=number, codes__digest=digest)
    if not sheets.update(confirmed_at=now):
        raise BadCode("not that code")
