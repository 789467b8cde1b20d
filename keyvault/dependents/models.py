"""The tables of dependents: every touchpoint that uses a key, what was pushed to it, and what it answers."""

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
    PUSHED = "pushed", "keyvault writes it there and reads it back"
    PROBED = "probed", "keyvault asks it over HTTP, and it names the version"


class Push(models.TextChoices):
    """How far a place that keyvault writes to is. WRITING: a call may be under way."""

    NONE = "", "Nothing was written yet"
    WRITING = "writing", "Being written"
    THERE = "there", "Written"
    FAILED = "failed", "Could not be written"


class Answer(models.TextChoices):
    """What asking an address has shown. NONE and REFUSED say nothing of the health of whoever is there."""

    HEALTHY = "healthy", "Healthy"
    BAD = "bad", "Not healthy"
    NONE = "none", "No usable answer"
    REFUSED = "refused", "Not let through"


class Dependent(models.Model):
    """One user of a key: an agent that fetches it, or a place, pushed to or looked after by a person.

    `wave` says in which step of a rollout it moves, 0 first. `cache_s` is how
    long it may go on with a version that it has fetched. `is_discovered`: it was
    seen using the key and nobody has registered it. Nothing is deleted.

    Where `connection` is set, keyvault pushes each version to `target` there, as
    `request_id` approved. `live_id` is the version that was last seen live at that
    place, `tried_id` one that was sent there and of which it is not known yet;
    `server` names the server at which that was.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    key = models.ForeignKey("keyvault.Key", models.PROTECT, related_name="dependents")
    agent = models.ForeignKey(
        "keyvault.Agent", models.PROTECT, null=True, related_name="dependents"
    )
    connection = models.ForeignKey(
        "keyvault.Connection", models.PROTECT, null=True, related_name="dependents"
    )
    target = models.JSONField(default=dict)
    request_id = models.UUIDField(null=True)
    push = models.CharField(max_length=10, choices=Push, default=Push.NONE, blank=True)
    push_note = models.TextField(blank=True)
    live_id = models.UUIDField(null=True)
    tried_id = models.UUIDField(null=True)
    pushed_at = models.DateTimeField(null=True)
    server = models.JSONField(default=dict)
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
            models.UniqueConstraint(
                fields=["connection", "target"],
                condition=Q(ended_at=None, connection__isnull=False),
                name="dependent_place_once",
            ),
            models.CheckConstraint(condition=Q(push__in=Push.values), name="dependent_push_known"),
            models.CheckConstraint(
                condition=(Q(agent__isnull=False, connection=None) & ~Q(health=Health.PUSHED))
                | Q(agent=None, connection=None, health__in=[Health.BY_HAND, Health.PROBED])
                | Q(agent=None, connection__isnull=False, health=Health.PUSHED),
                name="dependent_is_of_one_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} uses {self.key_id}"


class Probe(models.Model):
    """An address at which a dependent says how it is, as `request_id` approved; and what it said last.

    `allowed` is the one private address that may be reached for it, as the egress
    guard writes it; "" where only public ones may. `bad_count` counts the bad answers
    since the last good one, the first at `bad_since`, the last at `bad_at`. `number` is
    the version that it last named. Times are the database's.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    dependent = models.ForeignKey(Dependent, models.PROTECT, related_name="probes")
    address = models.CharField(max_length=500)
    allowed = models.CharField(max_length=300, blank=True)
    request_id = models.UUIDField(unique=True)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    asked_at = models.DateTimeField(null=True)
    answer = models.CharField(max_length=10, choices=Answer, blank=True)
    status = models.PositiveSmallIntegerField(default=0)
    healthy_at = models.DateTimeField(null=True)
    number = models.PositiveIntegerField(null=True)
    named_at = models.DateTimeField(null=True)
    bad_count = models.PositiveIntegerField(default=0)
    bad_since = models.DateTimeField(null=True)
    bad_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["dependent"], condition=Q(ended_at=None), name="probe_once_per_dependent"
            ),
            models.CheckConstraint(
                condition=Q(asked_at=None, answer="")
                | Q(asked_at__isnull=False, answer__in=Answer.values),
                name="probe_answer_known",
            ),
            models.CheckConstraint(
                condition=Q(number=None, named_at=None)
                | Q(number__isnull=False, named_at__isnull=False),
                name="probe_version_has_date",
            ),
            models.CheckConstraint(
                condition=Q(bad_count=0, bad_since=None, bad_at=None)
                | Q(bad_count__gt=0, bad_since__isnull=False, bad_at__isnull=False),
                name="probe_bad_has_dates",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.address} of {self.dependent_id}"
