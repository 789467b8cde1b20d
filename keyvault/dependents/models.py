"""The table of dependents: every touchpoint that uses a key."""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.db import models
from django.db.models import Q


class Health(models.TextChoices):
    """How a dependent is known to have a version; the words are those of the pages."""

    READS = "reads", "It reads the version from a gateway"
    REPORTS = "reports", "It reports the version by heartbeat"
    BY_HAND = "by_hand", "A person says so"


class Dependent(models.Model):
    """One user of a key: an agent that fetches it, or a place that a person looks after.

    `wave` says in which step of a rollout it moves, 0 first. `cache_s` is how
    long it may go on with a version that it has fetched. `is_discovered`: it was
    seen using the key and nobody has registered it. Nothing is deleted.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    key = models.ForeignKey("keyvault.Key", models.PROTECT, related_name="dependents")
    agent = models.ForeignKey(
        "keyvault.Agent", models.PROTECT, null=True, related_name="dependents"
    )
    name = models.CharField(max_length=120)
    health = models.CharField(max_length=10, choices=Health)
    wave = models.PositiveSmallIntegerField(default=0)
    cache_s = models.PositiveIntegerField(default=0)
    is_discovered = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["wave", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["key", "name"], condition=Q(ended_at=None), name="dependent_name_once"
            ),
            models.UniqueConstraint(
                fields=["key", "agent"],
                condition=Q(ended_at=None, agent__isnull=False),
                name="dependent_agent_once",
            ),
            models.CheckConstraint(
                condition=Q(health__in=Health.values), name="dependent_health_known"
            ),
            models.CheckConstraint(
                condition=Q(agent__isnull=False) | Q(health=Health.BY_HAND),
                name="dependent_of_nobody_is_by_hand",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} uses {self.key_id}"
