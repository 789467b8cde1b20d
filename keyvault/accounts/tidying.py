"""Remove what has served its time, so that guessing and waiting fill no table."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.contrib.sessions.models import Session

from keyvault.accounts.devices import Lockout, StepUp, TOTPDevice
from keyvault.accounts.lockout import FORGET_AFTER
from keyvault.accounts.models import SetupToken

KEEP = timedelta(days=1)


def tidy(*, now: datetime) -> None:
    """Delete sessions that are over, counts nobody needs, and proofs and seeds never used.

    None of these is a record: what happened stands in the ledger, and a
    decision keeps the method and age of its proof itself.
    """
    Session.objects.filter(expire_date__lt=now).delete()
    Lockout.objects.filter(last_failure_at__lt=now - FORGET_AFTER).delete()
    StepUp.objects.filter(proved_at__lt=now - KEEP).delete()
    TOTPDevice.objects.filter(confirmed=False, created_at__lt=now - KEEP).delete()
    SetupToken.objects.filter(expires_at__lt=now - KEEP).delete()
