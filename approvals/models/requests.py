"""Requests and their revisions."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from approvals.models.policies import PolicyVersion
from approvals.ports import Actor


class Request(models.Model):
    """A proposal to act, with the exact plan that its approvers sign.

    `plan_digest` covers payload, plan, requester, policy version, nonce, reason
    and ticket (`digests.plan_material`). `roles` keeps who held the host's roles
    at submission: who came later never counts; and who answered for the machine that
    asked. `asked_by` is that machine, which asked on the requester's behalf, as a snapshot.
    """

    class State(models.TextChoices):
        DRAFT = "draft", "Draft"
        PENDING = "pending", "Waiting"
        CHANGES_ASKED = "changes_asked", "Changes asked"
        APPROVED = "approved", "Approved"
        EXECUTING = "executing", "Running"
        DONE = "done", "Done"
        REJECTED = "rejected", "Rejected"
        EXPIRED = "expired", "Lapsed"
        WITHDRAWN = "withdrawn", "Withdrawn"
        INVALIDATED = "invalidated", "Changed since"
        FAILED = "failed", "Failed"

    OPEN = (State.DRAFT, State.PENDING, State.CHANGES_ASKED, State.APPROVED, State.EXECUTING)
    UNDECIDED = (State.PENDING, State.CHANGES_ASKED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.BigIntegerField(unique=True, editable=False)
    kind = models.CharField(max_length=60)
    state = models.CharField(max_length=14, choices=State, default=State.PENDING)
    revision = models.PositiveIntegerField(default=1)
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="approval_requests"
    )
    requester_label = models.CharField(max_length=200)
    asked_by_kind = models.CharField(max_length=16, blank=True, default="")
    asked_by_id = models.CharField(max_length=200, blank=True, default="")
    asked_by_label = models.CharField(max_length=200, blank=True, default="")
    policy_version = models.ForeignKey(PolicyVersion, models.PROTECT, related_name="requests")

    payload = models.JSONField()
    plan = models.JSONField()
    plan_digest = models.CharField(max_length=64)
    nonce = models.CharField(max_length=64)
    attributes = models.JSONField(default=dict)
    roles = models.JSONField(default=dict)
    risk = models.JSONField(default=list)
    risk_score = models.PositiveSmallIntegerField(default=0)
    reason = models.TextField()
    ticket = models.CharField(max_length=120, blank=True, default="")

    subject_kind = models.CharField(max_length=40)
    subject_id = models.CharField(max_length=120)
    subject_label = models.CharField(max_length=200)

    created_at = models.DateTimeField()
    revised_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    end_code = models.CharField(max_length=60, blank=True, default="")
    end_sentence = models.TextField(blank=True, default="")
    drift = models.JSONField(null=True)
    outcome = models.JSONField(null=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                name="request_state_is_known",
                condition=Q(
                    state__in=[
                        "draft",
                        "pending",
                        "changes_asked",
                        "approved",
                        "executing",
                        "done",
                        "rejected",
                        "expired",
                        "withdrawn",
                        "invalidated",
                        "failed",
                    ]
                ),
            ),
            models.CheckConstraint(
                name="request_runs_only_once_decided",
                condition=~Q(state__in=["approved", "executing", "done"])
                | Q(decided_at__isnull=False),
            ),
            models.CheckConstraint(
                name="request_end_has_a_time",
                condition=Q(
                    state__in=["draft", "pending", "changes_asked", "approved", "executing"]
                )
                | Q(ended_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["subject_kind", "subject_id", "-created_at"]),
            models.Index(fields=["requester", "-created_at"]),
            models.Index(
                name="request_asked_by",
                fields=["asked_by_kind", "asked_by_id", "-number"],
                condition=~Q(asked_by_id=""),
            ),
            models.Index(
                name="request_undecided_by_expiry",
                fields=["expires_at"],
                condition=Q(state__in=["pending", "changes_asked"]),
            ),
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        """Return the number that people say: REQ-2417."""
        return f"REQ-{self.number}"

    @property
    def asked_by(self) -> Actor | None:
        """Return the machine that asked on the requester's behalf, or None."""
        if not self.asked_by_id:
            return None
        return Actor(self.asked_by_kind, self.asked_by_id, self.asked_by_label)

    @property
    def is_open(self) -> bool:
        """Say whether the request can still reach execution."""
        return self.state in self.OPEN


class Revision(models.Model):
    """One wording of a request, kept so that approvers see what changed since they looked.

    `material` is all that the digest covers, so that a receipt for an old
    revision still verifies.
    """

    request = models.ForeignKey(Request, models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    material = models.JSONField()
    plan_digest = models.CharField(max_length=64)
    cause = models.CharField(max_length=40)
    author = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["request", "number"]
        constraints = [models.UniqueConstraint(name="revision_once", fields=["request", "number"])]

    def __str__(self) -> str:
        return f"{self.request} revision {self.number}"

    @property
    def plan(self) -> dict[str, Any]:
        """Return the plan that approvers of this revision read."""
        plan: dict[str, Any] = self.material["plan"]
        return plan
