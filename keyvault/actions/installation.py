"""Close set-up: from here on the installation has its policies, and /setup/ never opens again."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db import transaction

from approvals import queue
from approvals.ports import Run
from keyvault.accounts import selectors, setup
from keyvault.accounts.models import User
from keyvault.actions import defaults

PROBE = "installation.probe"
HERE = UUID(int=1)


def probe() -> None:
    """Promise a job that does nothing: whoever takes it proves that clock and worker run."""
    with transaction.atomic(durable=True):
        queue.enqueue(kind=PROBE, subject_id=HERE)


@queue.handler(PROBE)
def _take_probe(_subject_id: UUID, _run: Run) -> None:
    """Do nothing: having been taken is the answer."""


def finish_setup(*, user: User, now: datetime) -> None:
    """Write the default policies and the sandbox, and close set-up for good.

    Raises setup.AlreadySetUp.
    """
    actor = selectors.actor(user)
    with transaction.atomic(durable=True):
        setup.mark_done(actor=actor, administrator=user, now=now)
        defaults.seed(now=now)
        defaults.add_sandbox(now=now, actor=actor)
