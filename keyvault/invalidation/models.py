"""Tables of invalidation: what changed, and how far each gateway has applied it.

Triggers write `RightChange` in the transaction of the change itself and notify
on commit (migration 0007_right_changes), so that no code path can forget to. A
gateway stores the PostgreSQL snapshot that it has applied: a change is effective
there once its transaction is visible in that snapshot. Counting up a number
would not do: a transaction with a lower number may commit after a higher one.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.db import models

CHANNEL = "keyvault_rights"


class RightChange(models.Model):
    """One row that a gateway must read again: `kind` names the table, `subject_id` the row."""

    id = models.BigAutoField(primary_key=True)
    xact = models.BigIntegerField()
    kind = models.CharField(max_length=20)
    subject_id = models.UUIDField()
    at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [models.Index("xact", name="right_change_by_xact")]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject_id}"


class GatewayInstance(models.Model):
    """One running gateway process. `applied` is the snapshot up to which it knows every change."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.CharField(max_length=200)
    address = models.CharField(max_length=200, blank=True)
    audit_mode = models.CharField(max_length=10)
    version = models.CharField(max_length=40, blank=True, db_default="")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    applied = models.TextField()
    stale_max_s = models.FloatField(default=0)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["started_at"]

    def __str__(self) -> str:
        return self.name
