"""Tables of reads: one row for each read of a key by an agent, one for each segment of them.

`ReadEvent` is partitioned by day (migration 0009_reads) and append-only; whole
days are dropped when their time has passed. A segment stays for ever: with its
event in the ledger it says what was there.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from keyvault.audit.models import Event, WallClock
from keyvault.audit.reads.records import KEY_MAX, REQUEST_MAX, SOURCE_MAX, TOKEN_MAX


class ReadEvent(models.Model):
    """One read. `record` is what the gateway wrote before it answered; the columns repeat it.

    A partitioned table's key must hold the column it is partitioned by. The
    same record always has the same `at`, so the key still admits it once.
    """

    pk = models.CompositePrimaryKey("process", "seq", "at")
    process = models.UUIDField()
    seq = models.BigIntegerField()
    at = models.DateTimeField()
    agent_id = models.UUIDField()
    token = models.CharField(max_length=TOKEN_MAX)
    key_id = models.UUIDField()
    key = models.CharField(max_length=KEY_MAX)
    number = models.IntegerField()
    door = models.CharField(max_length=8)
    source = models.CharField(max_length=SOURCE_MAX)
    request = models.CharField(max_length=REQUEST_MAX)
    record = models.BinaryField()

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(fields=["key_id", "at"], name="read_by_key"),
            models.Index(fields=["agent_id", "at"], name="read_by_agent"),
        ]

    def __str__(self) -> str:
        return f"read {self.seq} of {self.process}"


class ReadSegment(models.Model):
    """Reads `first` to `last` of one process. `root`: RFC 6962 over their records.

    Append-only but for `event`, which is set once, when the ledger has it.
    """

    process = models.UUIDField()
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    count = models.IntegerField()
    root = models.BinaryField(max_length=32)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    closed_at = models.DateTimeField(db_default=WallClock())
    event = models.OneToOneField(Event, models.PROTECT, null=True, related_name="read_segment")

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["process", "first"], name="segment_once"),
            models.CheckConstraint(
                condition=Q(first__gte=1, count=F("last") - F("first") + 1, count__gte=1),
                name="segment_is_whole",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["process", "last"], name="segment_by_last"),
            models.Index(fields=["id"], condition=Q(event=None), name="segment_without_event"),
            models.Index(fields=["first_at"], name="segment_by_time"),
        ]

    def __str__(self) -> str:
        return f"reads {self.first} to {self.last} of {self.process}"


class ReadRetention(models.Model):
    """For how many days reads are kept: one row, which only the owner of the tables may change.

    The serving role can let days be dropped that are older than this, and no others.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    days = models.PositiveIntegerField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.CheckConstraint(name="one_retention", condition=Q(id=1)),
            models.CheckConstraint(name="retention_at_least_a_week", condition=Q(days__gte=7)),
        ]

    def __str__(self) -> str:
        return f"{self.days} days"
