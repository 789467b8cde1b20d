"""What people decided and said about requests."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from approvals.models.requests import Request


class Decision(models.Model):
    """One person's verdict on one revision, with the server's receipt; never changed.

    `requester` repeats the request's own, so that a constraint can hold the
    separation of duties; a trigger keeps the two equal.
    """

    class Verdict(models.TextChoices):
        APPROVE = "approve", "Approved"
        REJECT = "reject", "Rejected"
        CHANGES = "changes", "Asked for changes"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    request = models.ForeignKey(Request, models.PROTECT, related_name="decisions")
    revision = models.PositiveIntegerField()
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="approval_decisions"
    )
    person_label = models.CharField(max_length=200)
    requester = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=10, choices=Verdict)
    stage = models.PositiveSmallIntegerField()
    solo = models.BooleanField(default=False)
    comment = models.TextField(blank=True, default="")
    plan_digest = models.CharField(max_length=64)
    seen = models.JSONField(default=dict)
    seen_digest = models.CharField(max_length=64)
    method = models.CharField(max_length=20)
    age_s = models.PositiveIntegerField()
    receipt = models.JSONField()
    signature = models.BinaryField()
    decided_at = models.DateTimeField()

    class Meta:
        ordering = ["decided_at", "id"]
        constraints = [
            models.UniqueConstraint(
                name="decision_once_per_revision", fields=["request", "revision", "person"]
            ),
            models.CheckConstraint(
                name="decision_never_by_the_requester",
                condition=Q(solo=True) | ~Q(person=F("requester")),
            ),
            models.CheckConstraint(
                name="decision_verdict_is_known",
                condition=Q(verdict__in=["approve", "reject", "changes"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} of {self.request} by {self.person_label}"


class Comment(models.Model):
    """What a person said about a request without deciding; hostile text to every page."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    request = models.ForeignKey(Request, models.PROTECT, related_name="comments")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    person_label = models.CharField(max_length=200)
    revision = models.PositiveIntegerField()
    text = models.TextField()
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return f"comment on {self.request} by {self.person_label}"
