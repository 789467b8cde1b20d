"""Tables of usage: reported events by day, sums by hour, and segments that are not summed yet.

Reads at the gateways are not copied: they stand in `ReadEvent`, and only their
sums come here.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q

from keyvault.inventory import naming


class UsageKind(models.TextChoices):
    """How a use came to our knowledge; it says what `host` means."""

    GATEWAY = "gateway", "Read from a gateway"
    REPORTED = "reported", "Reported by its user"
    LEASE = "lease", "Taken for one run"


def _loose(to: str, *, null: bool = False) -> models.ForeignKey[Any, Any]:
    """Return a reference that the database does not enforce: nothing counted makes counting fail."""
    return models.ForeignKey(
        to, models.DO_NOTHING, null=null, db_constraint=False, db_index=False, related_name="+"
    )


class UsageEvent(models.Model):
    """One use, or `count` like ones, that an agent or a person reported.

    Partitioned by day (migration 0011_usage) and append-only; whole days are
    dropped when their time has passed. `host` is what was called, empty where
    that was not said; `number` the version, where it is known.
    """

    pk = models.CompositePrimaryKey("at", "id")
    id = models.BigIntegerField()
    at = models.DateTimeField()
    reported_at = models.DateTimeField()
    key_id = models.UUIDField()
    agent = _loose("keyvault.Agent", null=True)
    user = _loose(settings.AUTH_USER_MODEL, null=True)
    number = models.IntegerField(null=True)
    host = models.CharField(max_length=naming.HOST_MAX)
    count = models.IntegerField()

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [models.Index(fields=["key_id", "at"], name="usage_by_key")]

    def __str__(self) -> str:
        return f"{self.count} uses of {self.key_id} at {self.at}"


class UsageHour(models.Model):
    """How often one agent or person used one key in one hour, by host.

    `host` is what was called, as reported, or the address that read from a gateway; of a
    lease it is empty.
    """

    key = _loose("keyvault.Key")
    agent = _loose("keyvault.Agent", null=True)
    user = _loose(settings.AUTH_USER_MODEL, null=True)
    host = models.CharField(max_length=naming.HOST_MAX)
    kind = models.CharField(max_length=10, choices=UsageKind)
    hour = models.DateTimeField()
    count = models.BigIntegerField()
    last_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            # Its order also serves "one key since an hour".
            models.UniqueConstraint(
                fields=["key", "hour", "agent", "user", "host", "kind"],
                name="usage_hour_once",
                nulls_distinct=False,
            ),
            models.CheckConstraint(condition=Q(kind__in=UsageKind.values), name="usage_kind_known"),
            models.CheckConstraint(condition=Q(count__gte=1), name="usage_counts_something"),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["agent", "hour"],
                condition=Q(agent__isnull=False),
                name="usage_hour_by_agent",
            ),
            # No order can be read from it: with one, the planner would look for the last use
            # of a key that was never used through all the hours of every other key.
            BrinIndex(fields=["hour"], name="usage_hour_by_time", autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"{self.count} uses of {self.key_id} in the hour of {self.hour}"


class UsageDue(models.Model):
    """A segment of reads whose sums are still to be added. The row is the queue.

    A trigger makes it together with its segment, and it is deleted in the
    transaction that adds the sums: each segment counts exactly once.
    """

    segment = models.OneToOneField(
        "keyvault.ReadSegment", models.PROTECT, primary_key=True, related_name="+"
    )

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"segment {self.segment_id} is due"


class LoadedVersion(models.Model):
    """One agent says that it has loaded one version of a key: since when, and when last.

    Written by the gateways (`keyvault.gateway.heartbeats`), which judged the
    report by the agent's rights, and where an agent confirms a version to a
    rotation (`keyvault.rotation.reports`). What nobody has said for a month is deleted.
    """

    key = _loose("keyvault.Key")
    agent = _loose("keyvault.Agent")
    number = models.IntegerField()
    is_healthy = models.BooleanField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key", "number", "agent"], name="loaded_version_once")
        ]

    def __str__(self) -> str:
        return f"version {self.number} of {self.key_id} at {self.agent_id}"
