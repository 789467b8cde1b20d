"""Writes: ask, decide, end, and keep policies. Every outermost one owns its transaction."""

from __future__ import annotations

from approvals.services.asking import Denied, renew, revise, submit
from approvals.services.deciding import NotEligible, Stale, decide
from approvals.services.ending import access_comment, comment, expire, withdraw, withdraw_asked
from approvals.services.policies import save_policy, seed_policies
from approvals.services.states import BadText, Closed

__all__ = [
    "BadText",
    "Closed",
    "Denied",
    "NotEligible",
    "Stale",
    "access_comment",
    "comment",
    "decide",
    "expire",
    "renew",
    "revise",
    "save_policy",
    "seed_policies",
    "submit",
    "withdraw",
    "withdraw_asked",
]
