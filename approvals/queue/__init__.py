"""The queue of record: a table of jobs that is outbox, claim, backoff and held list in one."""

from __future__ import annotations

from approvals.queue.rows import (
    CHANNEL,
    HeldJob,
    NotHeld,
    due,
    enqueue,
    held,
    newest,
    oldest_due_at,
    overdue,
    resume,
)
from approvals.queue.running import handler, run

__all__ = [
    "CHANNEL",
    "HeldJob",
    "NotHeld",
    "due",
    "enqueue",
    "handler",
    "held",
    "newest",
    "oldest_due_at",
    "overdue",
    "resume",
    "run",
]
