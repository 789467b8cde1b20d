"""The one table of the API: answers that are given again instead of acting twice."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q


class ApiReplay(models.Model):
    """One POST under one Idempotency-Key. Without a status its first call is still under way.

    `answer` is the text that was sent, to the byte; of an answer that held a value
    (`replays.Once`) it is the same without it. So no secret is ever kept here.
    """

    principal = models.CharField(max_length=80)
    route = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    body_digest = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    answer = models.TextField(blank=True)
    headers = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["principal", "route", "key"], name="replay_once"),
            models.CheckConstraint(
                condition=Q(status=None, answer="") | Q(status__gte=200, status__lt=300),
                name="replay_of_success_only",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.route} by {self.principal}"
