"""Reads: the gate to a request, lists of requests, and who decides."""

from __future__ import annotations

from approvals.selectors.access import (
    Stand,
    access_asked,
    access_request,
    asked_by,
    may_comment,
    open_count,
    standing,
    took_part,
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
    by_ids,
    decided,
    done_for_subject,
    for_subject,
    mine,
    mine_count,
    mine_page,
    oldest_pending_at,
    open_for_subject,
    open_with,
    plan_of,
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
    "by_ids",
    "changes",
    "decided",
    "done_for_subject",
    "for_subject",
    "may_comment",
    "mine",
    "mine_count",
    "mine_page",
    "oldest_pending_at",
    "open_count",
    "open_for_subject",
    "open_with",
    "plan_of",
    "preview",
    "queue",
    "queue_count",
    "score",
    "standing",
    "stuck",
    "took_part",
    "who_decides",
]
