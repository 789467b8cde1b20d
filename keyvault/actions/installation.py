"""Close set-up: from here on the installation has its policies, and /setup/ never opens again."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from keyvault.accounts import selectors, setup
from keyvault.accounts.models import User
from keyvault.actions import defaults


def finish_setup(*, user: User, now: datetime) -> None:
    """Write the default policies and the sandbox, and close set-up for good.

    Raises setup.AlreadySetUp.
    """
    actor = selectors.actor(user)
    with transaction.atomic(durable=True):
        setup.mark_done(actor=actor, administrator=user, now=now)
        defaults.seed(now=now)
        defaults.add_sandbox(now=now, actor=actor)
