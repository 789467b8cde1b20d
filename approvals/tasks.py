"""The Celery tasks: they carry an id, and the row decides what happens."""

from __future__ import annotations

import os
import socket
import threading

from celery import shared_task
from django.utils import timezone

from approvals import execution, notify, queue

__all__ = ["execution", "notify", "run_job"]  # Importing the two registers their handlers.


@shared_task(name="approvals.run_job", ignore_result=True)  # type: ignore[untyped-decorator]
def run_job(job_id: int) -> None:
    """Run one job by its number. A duplicate, an early and an unknown message have no effect."""
    if isinstance(job_id, bool) or not isinstance(job_id, int):
        return
    queue.run(job_id, worker=name(), now=timezone.now())


def name() -> str:
    """Return what this worker calls itself in the job table."""
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"
