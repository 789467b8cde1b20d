"""Worker processes that do one job each and end.

They are forked from a process that has the product loaded, as Celery forks its
own: loading it takes longer than most jobs. That process has the environment
of an installation, so that they read keys, settings and the database as a
Celery worker does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest import mock

import django
from django.apps import apps

if not apps.ready:  # In the process that forks; the suite itself has long begun.
    django.setup()

from approvals import tasks
from approvals.queue.claims import Claim


def parent(environment: Mapping[str, str]) -> ForkServerContext:
    """Start the process that forks workers, once and for all, and return how to ask it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with mock.patch.dict(os.environ, environment):
        forkserver.ensure_running()
    return context


def work(job_id: int, crash_at: str, pause_at: str) -> None:
    """Do one job in this process.

    `crash_at` names the point at which it kills itself with SIGKILL, `pause_at`
    the one at which it stops until somebody sends SIGCONT.
    """
    os.environ["KV_CRASH_AT"] = crash_at
    _pause_at(pause_at)
    tasks.run_job(job_id)


def is_stopped(pid: int) -> bool:
    """Say whether a process has reached its pause."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")


def _pause_at(wanted: str) -> None:
    """Make every claim stop the process when it reaches a point."""
    go_on = Claim.reached

    def reached(claim: Claim, point: str) -> None:
        if point == wanted:
            os.kill(os.getpid(), signal.SIGSTOP)
        go_on(claim, point)

    Claim.reached = reached
