"""Tables of rotations: one run of the saga, each dependent's part in it, and batches of many."""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q


class RotationState(models.TextChoices):
    """The states of `saga.State` with the words of the pages."""

    PLANNED = "planned", "Planned"
    CREATING = "creating", "Creating"
    RECONCILING = "reconciling", "Creating"
    CREATED = "created", "Creating"
    VALIDATED = "validated", "Staging"
    STAGED = "staged", "Staging"
    PROMOTING = "promoting", "Rolling out"
    DRAINING = "draining", "Draining"
    BROWNOUT = "brownout", "Brown-out"
    REVOKING = "revoking", "Revoking"
    REVOKE_VERIFIED = "revoke_verified", "Revoking"
    COMPLETED = "completed", "Done"
    HELD = "held", "Held"
    ROLLING_BACK = "rolling_back", "Rolling back"
    ROLLED_BACK = "rolled_back", "Rolled back"


class Trigger(models.TextChoices):
    """What began a rotation; the words are those of the pages."""

    CADENCE = "cadence", "Its cadence"
    SEEN = "seen", "A person saw the value"
    EXPIRY = "expiry", "It was about to expire"
    CI = "ci", "A deployment"
    INCIDENT = "incident", "An incident"
    MANUAL = "manual", "A person"


class DeliveryState(models.TextChoices):
    """The states of `saga.Progress` with the words of the pages."""

    WAITING = "waiting", "Waiting"
    WRITING = "writing", "Writing"
    RESTARTING = "restarting", "Restarting"
    CONFIRMED = "confirmed", "Confirmed"
    FAILED = "failed", "Failed"
    EXCUSED = "excused", "Excused"


ENDED = (RotationState.COMPLETED, RotationState.ROLLED_BACK)


class Rotation(models.Model):
    """One rotation of one key. The row and its deliveries are all that a worker needs.

    `request_id` is the request that covers it: its own, or the one that created
    the key and approved its cadence. `slot` is the due time that a schedule
    served, so that no schedule serves it twice. `held_from` is where a held one
    goes on. `old_id` and `new_id` are versions of the key. `brownout_at` is when the old
    one was switched off for a while, `misses` how many have failed since.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    key = models.ForeignKey("keyvault.Key", models.PROTECT, related_name="rotations")
    request_id = models.UUIDField()
    trigger = models.CharField(max_length=10, choices=Trigger)
    reason = models.TextField(blank=True)
    deploy_id = models.CharField(max_length=120, blank=True)
    slot = models.DateTimeField(null=True)
    started_by = models.CharField(max_length=200)
    state = models.CharField(max_length=20, choices=RotationState, default=RotationState.PLANNED)
    wave = models.PositiveSmallIntegerField(default=0)
    since = models.DateTimeField()
    cause = models.CharField(max_length=20, blank=True)
    sentence = models.TextField(blank=True)
    held_from = models.CharField(max_length=20, blank=True)
    old_id = models.UUIDField(null=True)
    new_id = models.UUIDField(null=True)
    old_verdict = models.CharField(max_length=10, default="untried")
    quiet_since = models.DateTimeField(null=True)
    brownout_at = models.DateTimeField(null=True)
    misses = models.PositiveIntegerField(default=0)
    wants_back = models.BooleanField(default=False)
    may_go_on = models.BooleanField(default=False)
    terms = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    promoted_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["-created_at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["key"], condition=~Q(state__in=ENDED), name="rotation_one_open_per_key"
            ),
            models.UniqueConstraint(fields=["key", "slot"], name="rotation_slot_once"),
            models.CheckConstraint(
                condition=Q(state__in=RotationState.values), name="rotation_state_known"
            ),
            models.CheckConstraint(
                condition=Q(trigger__in=Trigger.values), name="rotation_trigger_known"
            ),
            models.CheckConstraint(
                condition=(Q(state__in=ENDED) & Q(ended_at__isnull=False))
                | (~Q(state__in=ENDED) & Q(ended_at=None)),
                name="rotation_ended_has_date",
            ),
            models.CheckConstraint(
                condition=(Q(state=RotationState.HELD) & ~Q(held_from=""))
                | (~Q(state=RotationState.HELD) & Q(held_from="")),
                name="rotation_held_knows_from_where",
            ),
        ]
        indexes: ClassVar = [
            models.Index("created_at", condition=~Q(state__in=ENDED), name="rotation_open")
        ]

    def __str__(self) -> str:
        return f"rotation of {self.key_id}: {self.state}"

    @property
    def goes_back(self) -> bool:
        """Say whether it is on its way back, or held there."""
        return RotationState.ROLLING_BACK in {self.state, self.held_from}


class Skip(models.TextChoices):
    """Why a batch begins no rotation of one of its keys; the words are those of the pages."""

    ROTATING = "rotating", "It is being rotated already"
    RENEWED = "renewed", "It has a new version since this was asked"
    ENDED = "ended", "It is not active"
    BY_HAND = "by_hand", "A person makes its values"
    SHORT_LIVED = "short_lived", "Its values end by themselves"
    NO_PROVIDER = "no_provider", "The plug-in of its provider is not loaded"
    STOPPED = "stopped", "The batch was stopped"


class RotationBatch(models.Model):
    """Many keys that one request has rotated, a bounded number at a time.

    Its numbers are counted from its keys and their rotations and stand nowhere
    else, so that they cannot differ from what is.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    request_id = models.UUIDField(unique=True)
    trigger = models.CharField(max_length=10, choices=Trigger)
    reason = models.TextField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="rotation_batches"
    )
    started_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True)
    stopped_by = models.CharField(max_length=200, blank=True)
    stopped_for = models.TextField(blank=True)

    class Meta:
        default_permissions = ()
        ordering = ["-created_at", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(trigger__in=[Trigger.MANUAL, Trigger.INCIDENT]),
                name="batch_trigger_known",
            ),
            models.CheckConstraint(
                condition=Q(stopped_at=None, stopped_by="", stopped_for="")
                | (Q(stopped_at__isnull=False) & ~Q(stopped_by="") & ~Q(stopped_for="")),
                name="batch_stopped_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"batch of {self.request_id}"


class BatchKey(models.Model):
    """One key of a batch and its place in the order. It waits until it is begun or skipped, once."""

    id = models.BigAutoField(primary_key=True)
    batch = models.ForeignKey(RotationBatch, models.PROTECT, related_name="keys")
    key = models.ForeignKey("keyvault.Key", models.PROTECT, related_name="batch_keys")
    place = models.PositiveIntegerField()
    risk = models.PositiveSmallIntegerField()
    rotation = models.OneToOneField(Rotation, models.PROTECT, null=True, related_name="batch_key")
    skipped = models.CharField(max_length=20, choices=Skip, blank=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["batch", "place"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["batch", "key"], name="batch_key_once"),
            models.UniqueConstraint(fields=["batch", "place"], name="batch_place_once"),
            models.CheckConstraint(
                condition=Q(skipped="") | Q(skipped__in=Skip.values), name="batch_skip_known"
            ),
            models.CheckConstraint(
                condition=Q(rotation=None, skipped="", settled_at=None)
                | (Q(rotation=None, settled_at__isnull=False) & ~Q(skipped=""))
                | Q(rotation__isnull=False, skipped="", settled_at__isnull=False),
                name="batch_key_begun_or_skipped",
            ),
        ]
        indexes: ClassVar = [
            models.Index("batch", "place", condition=Q(settled_at=None), name="batch_key_waiting"),
        ]

    def __str__(self) -> str:
        return f"{self.key_id} at {self.place} of {self.batch_id}"


class Delivery(models.Model):
    """One dependent's part in one rotation. `has_new`: it was given the new version.

    `was_healthy`: how its address answered right before that; None where nobody asked.
    `given_at` is when it was last given a version, the old one again on the way back.
    """

    id = models.BigAutoField(primary_key=True)
    rotation = models.ForeignKey(Rotation, models.PROTECT, related_name="deliveries")
    dependent = models.ForeignKey("keyvault.Dependent", models.PROTECT, related_name="deliveries")
    wave = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=12, choices=DeliveryState, default=DeliveryState.WAITING)
    has_new = models.BooleanField(default=False)
    was_healthy = models.BooleanField(null=True)
    note = models.TextField(blank=True)
    confirmed_by = models.CharField(max_length=200, blank=True)
    given_at = models.DateTimeField(null=True)
    confirmed_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["wave", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["rotation", "dependent"], name="delivery_once_per_rotation"
            ),
            models.CheckConstraint(
                condition=Q(state__in=DeliveryState.values), name="delivery_state_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.dependent_id} in {self.rotation_id}: {self.state}"
