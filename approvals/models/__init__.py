"""Every table of approvals: requests, decisions, policies and jobs."""

from __future__ import annotations

from approvals.models.decisions import Comment, Decision
from approvals.models.jobs import Job
from approvals.models.policies import Policy, PolicyVersion
from approvals.models.requests import Request, Revision

__all__ = ["Comment", "Decision", "Job", "Policy", "PolicyVersion", "Request", "Revision"]
