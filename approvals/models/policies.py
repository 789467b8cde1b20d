"""Policies with their history."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now


class Policy(models.Model):
    """A named policy; what it says stands in its versions."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, unique=True)
    created_at = models.DateTimeField(db_default=Now())
    archived_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class PolicyVersion(models.Model):
    """One saved wording of a policy; never changed afterwards, so that history can be judged."""

    policy = models.ForeignKey(Policy, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    body = models.JSONField()
    saved_at = models.DateTimeField()
    saved_by = models.JSONField()

    class Meta:
        ordering = ["policy", "number"]
        constraints = [
            models.UniqueConstraint(name="policy_version_once", fields=["policy", "number"])
        ]

    def __str__(self) -> str:
        return f"{self.policy} v{self.number}"
