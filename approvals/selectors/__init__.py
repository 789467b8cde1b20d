"""Reads: the gate to a request, lists of requests, and who decides."""

from __future__ import annotations

from approvals.selectors.access import (
    Stand,
    access_asked,
    access_request,
    asked_by,
    open_count,
    standing,
)
from approvals.selectors.deciders import (
    Deciders,
    Preview,
    StageView,
    preview,
    score,
    who_decides,
)
from approvals.selectors.diffs import changes
from approvals.selectors.history import BY_ASKER
from approvals.selectors.lists import (
    Page,
    Waiting,
    decided,
    for_subject,
    mine,
    mine_count,
    mine_page,
    oldest_pending_at,
    open_with,
    queue,
    queue_count,
    stuck,
)

__all__ = [
    "BY_ASKER",
    "Deciders",
    "Page",
    "Preview",
    "StageView",
    "Stand",
    "Waiting",
    "access_asked",
    "access_request",
    "asked_by",
    "changes",
    "decided",
    "for_subject",
    "mine",
    "mine_count",
    "mine_page",
    "oldest_pending_at",
    "open_count",
    "open_with",
    "preview",
    "queue",
    "queue_count",
    "score",
    "standing",
    "stuck",
    "who_decides",
]
