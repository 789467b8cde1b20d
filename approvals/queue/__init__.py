"""The queue of record: a table of jobs that is outbox, claim, backoff and held list in one."""

from __future__ import annotations

from approvals.queue.rows import (
    CHANNEL,
    HeldJob,
    NotHeld,
    NotOpen,
    cancel,
    due,
    enqueue,
    hasten,
    held,
    newest,
    oldest_due_at,
    open_jobs,
    overdue,
    resume,
    wake,
)
from approvals.queue.running import handler, run

__all__ = [
    "CHANNEL",
    "HeldJob",
    "NotHeld",
    "NotOpen",
    "cancel",
    "due",
    "enqueue",
    "handler",
    "hasten",
    "held",
    "newest",
    "oldest_due_at",
    "open_jobs",
    "overdue",
    "resume",
    "run",
    "wake",
]
