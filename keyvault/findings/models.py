"""The table of findings: things that a person should look at."""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.db import models
from django.db.models import Q


class FindingKind(models.TextChoices):
    """What can be found; the words are those of the pages."""

    ORPHAN = "orphan", "Credential that nobody owns"
    DEAD = "dead", "Credential that stopped working"
    UNANSWERED = "unanswered", "Lost answer of a provider"
    CONNECTION = "connection", "Connection with a problem"
    MISMATCH = "mismatch", "Sealed value in the wrong place"
    ROTATION = "rotation", "Rotation that waits for a person"
    PLACE = "place", "Place that cannot be written"
    MISSED = "missed", "Rotation that did not begin on its day"
    USE_HOST = "use_host", "Key used for an undeclared host"
    USE_VOLUME = "use_volume", "Key used more than declared"
    USE_ENDED = "use_ended", "Key used without a right"
    USE_BY_HAND = "use_by_hand", "Program uses a key meant for a person"


class Finding(models.Model):
    """One thing to look at. It is opened once per subject and detail, however often it is seen.

    `subject_*` is a snapshot, so that this table stands below those it speaks of.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    kind = models.CharField(max_length=20, choices=FindingKind)
    subject_kind = models.CharField(max_length=40)
    subject_id = models.CharField(max_length=64)
    subject_label = models.CharField(max_length=200)
    detail = models.CharField(max_length=300, blank=True)
    sentence = models.TextField()
    evidence = models.JSONField(default=dict)
    opened_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    closed_by = models.CharField(max_length=200, blank=True)
    closing = models.TextField(blank=True)

    class Meta:
        default_permissions = ()
        ordering = ["-opened_at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["kind", "subject_kind", "subject_id", "detail"],
                condition=Q(closed_at=None),
                name="finding_open_once",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=FindingKind.values), name="finding_kind_known"
            ),
            models.CheckConstraint(
                condition=Q(closed_at=None, closed_by="")
                | (Q(closed_at__isnull=False) & ~Q(closed_by="")),
                name="finding_closed_by_somebody",
            ),
        ]
        indexes: ClassVar = [
            models.Index("opened_at", condition=Q(closed_at=None), name="finding_open"),
            models.Index("subject_kind", "subject_id", name="finding_by_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject_label}"
