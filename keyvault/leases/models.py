"""The table of leases: what was minted for which agent, until when, and how it ended."""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q


class LeaseState(models.TextChoices):
    """Where a lease stands.

    MINTING was written before the provider was asked, OPEN is held by its agent, ENDING
    waits for the provider. RETURNED was given back, EXPIRED had its time, WITHDRAWN was
    taken by a person or with the right to the key, FAILED never came to be. Of an ORPHANED
    one nobody knows the credential, if there is any: it ends by itself.
    """

    MINTING = "minting", "Being made"
    OPEN = "open", "Open"
    ENDING = "ending", "Ending"
    RETURNED = "returned", "Returned"
    EXPIRED = "expired", "Over"
    WITHDRAWN = "withdrawn", "Withdrawn"
    ORPHANED = "orphaned", "Lost"
    FAILED = "failed", "Failed"


# What the provider may still accept. An orphan is among them, and takes nobody's place.
HELD = (LeaseState.MINTING, LeaseState.OPEN, LeaseState.ENDING)
LIVING = (*HELD, LeaseState.ORPHANED)
ENDS = (LeaseState.RETURNED, LeaseState.EXPIRED, LeaseState.WITHDRAWN)


class Lease(models.Model):
    """One credential for one run of an agent. Its value is in no column.

    While the lease lives the value lies sealed under its id, for the one purpose of
    ending it. `server` names where it was minted; `remote` is the provider's own
    description. `expires_at` is when we end it, `lapses_at` when the provider does at
    the latest. `aim` is the state that ENDING leads to.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    agent = models.ForeignKey("keyvault.Agent", models.PROTECT, related_name="leases")
    key = models.ForeignKey("keyvault.Key", models.PROTECT, related_name="leases")
    scopes = ArrayField(models.CharField(max_length=120), default=list)
    server = models.JSONField(default=dict)
    remote_id = models.CharField(max_length=300, blank=True)
    remote = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=LeaseState, default=LeaseState.MINTING)
    aim = models.CharField(max_length=10, blank=True)
    cause = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    taken_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()
    lapses_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["-created_at", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=LeaseState.values), name="lease_state_known"
            ),
            models.CheckConstraint(
                condition=Q(state=LeaseState.ENDING, aim__in=ENDS)
                | (~Q(state=LeaseState.ENDING) & Q(aim="")),
                name="lease_ending_has_aim",
            ),
            models.CheckConstraint(
                condition=Q(state__in=LIVING, ended_at=None)
                | (~Q(state__in=LIVING) & Q(ended_at__isnull=False)),
                name="lease_ended_has_date",
            ),
            models.CheckConstraint(
                condition=~Q(state=LeaseState.OPEN) | Q(taken_at__isnull=False),
                name="lease_open_was_taken",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at"), lapses_at__gte=F("expires_at")),
                name="lease_ends_later",
            ),
        ]
        indexes: ClassVar = [
            models.Index("expires_at", condition=Q(state__in=LIVING), name="lease_living"),
            models.Index(fields=["key", "-created_at"], name="lease_by_key"),
            models.Index(fields=["agent", "-created_at"], name="lease_by_agent"),
        ]

    def __str__(self) -> str:
        return f"lease {self.pk}"
