"""Reads: the gate to a request, lists of requests, and who decides."""

from __future__ import annotations

from approvals.selectors.access import Stand, access_request, standing
from approvals.selectors.deciders import (
    Deciders,
    Preview,
    StageView,
    preview,
    score,
    who_decides,
)
from approvals.selectors.lists import (
    Waiting,
    for_subject,
    mine,
    mine_count,
    oldest_pending_at,
    queue,
    queue_count,
    stuck,
)

__all__ = [
    "Deciders",
    "Preview",
    "StageView",
    "Stand",
    "Waiting",
    "access_request",
    "for_subject",
    "mine",
    "mine_count",
    "oldest_pending_at",
    "preview",
    "queue",
    "queue_count",
    "score",
    "standing",
    "stuck",
    "who_decides",
]
