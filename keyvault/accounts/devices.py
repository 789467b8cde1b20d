"""Tables of second factors and of the failures that lock them.

Codes are checked through `django_otp.verify_token` only: it holds the row lock
under which a code counts once. `factors.py` is the door to it.
"""

from __future__ import annotations

import time
import uuid
from typing import ClassVar

from django.db import models
from django.utils import timezone
from django_otp.models import Device, DeviceManager

from keyvault.accounts import codes, totp
from keyvault.accounts.models import User
from keyvault.crypto import envelope, keyring
from keyvault.crypto.envelope import Context
from keyvault.crypto.secret import Secret


class TOTPDevice(Device):  # type: ignore[misc]  # django-otp has no types.
    """An authenticator app. The seed is sealed; a time step is accepted once."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    seal_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    sealed_seed = models.BinaryField()
    drift = models.SmallIntegerField(default=0)
    last_step = models.BigIntegerField(default=-1)
    created_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager[TOTPDevice]] = DeviceManager()

    class Meta:
        """Allow one confirmed authenticator per person: replacing is an act of its own."""

        constraints = [
            models.UniqueConstraint(
                fields=["user"], condition=models.Q(confirmed=True), name="totp_confirmed_once"
            )
        ]

    def seal(self, seed: Secret) -> None:
        """Set the sealed seed. Raises keyring.NoKey on a sealed start."""
        self.sealed_seed = envelope.seal(seed, context=self._context(), ring=keyring.active())

    def seed(self) -> Secret:
        """Open the seed. Raises keyring.NoKey on a sealed start."""
        return envelope.open(
            bytes(self.sealed_seed), context=self._context(), ring=keyring.active()
        )

    def _context(self) -> Context:
        return Context("totp", self.seal_id, 0, "seed")

    def match(self, code: str, *, unix_s: float) -> totp.Match | None:
        """Return the step that `code` belongs to, used or not, or None."""
        if not totp.well_formed(code):
            return None
        return totp.match(self.seed().reveal(), code, unix_s=unix_s, drift=self.drift)

    def verify_token(self, token: str) -> bool:
        """Accept an unused code and spend its step; the caller holds the row lock.

        django-otp passes no time in, so this one method of the domain reads the clock.
        """
        found = self.match(token, unix_s=time.time())
        if found is None or found.step <= self.last_step:
            return False
        self.last_step, self.drift = found.step, found.drift
        self.last_used_at = timezone.now()  # noqa: TID251  (See above.)
        self.save(update_fields=["last_step", "drift", "last_used_at"])
        return True


class RecoverySheet(Device):  # type: ignore[misc]  # As above.
    """The set of recovery codes a person holds: a device, so that one of them verifies a session."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager[RecoverySheet]] = DeviceManager()

    class Meta:
        """Allow one sheet per person."""

        constraints = [models.UniqueConstraint(fields=["user"], name="recovery_sheet_once")]

    def verify_token(self, token: str) -> bool:
        """Spend one code by a guarded update, so that one of many racers wins."""
        digest = codes.digest(token, purpose="recovery", owner=str(self.user_id))
        spent = self.codes.filter(digest=digest, used_at=None).update(
            used_at=timezone.now()  # noqa: TID251  (django-otp passes no time in.)
        )
        return bool(spent == 1)


class RecoveryCode(models.Model):
    """One recovery code, as a digest."""

    sheet = models.ForeignKey(RecoverySheet, on_delete=models.CASCADE, related_name="codes")
    number = models.PositiveSmallIntegerField()
    digest = models.CharField(max_length=64)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Number the codes of a sheet as the page shows them."""

        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["sheet", "number"], name="recovery_code_number"),
            models.UniqueConstraint(fields=["sheet", "digest"], name="recovery_code_digest"),
        ]

    def __str__(self) -> str:
        """Return its place on the sheet."""
        return f"code {self.number} of sheet {self.sheet_id}"


class StepUp(models.Model):
    """A fresh second factor: whose, for exactly which act, when proved and when used up."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    method = models.CharField(max_length=16)
    digest = models.CharField(max_length=64)
    proved_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Keep the lookup by person short."""

        indexes = [models.Index(fields=["user", "proved_at"])]

    def __str__(self) -> str:
        """Return the proof in words."""
        return f"{self.method} by {self.user_id} at {self.proved_at}"


class Lockout(models.Model):
    """Failures counted against one user name or one address; survives a restart.

    `bucket` is a keyed digest: people type passwords into the name field.
    """

    bucket = models.CharField(max_length=64, primary_key=True)
    failures = models.PositiveIntegerField(default=0)
    last_failure_at = models.DateTimeField()
    locked_until = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        """Return the count."""
        return f"{self.failures} failures"
