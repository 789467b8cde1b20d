"""Tables of the ledger: events, their leaves, the tree's stored hashes and its checkpoints.

Event, LedgerLeaf, LedgerNode and Checkpoint are append-only: migration
0002_ledger puts a trigger on each, and the application's role may only insert
and select.
"""

from __future__ import annotations

from uuid import uuid4

from django.db import models
from django.db.models.functions import Now

from keyvault.audit.entries import COLUMNS, Entry


class WallClock(models.Func):
    """The database's clock at this very moment, not at the start of the transaction."""

    template = "clock_timestamp()"
    output_field = models.DateTimeField()


class TransactionId(models.Func):
    """The number of the transaction that writes the row; the sequencer sweeps by it."""

    template = "(pg_current_xact_id()::text::bigint)"
    output_field = models.BigIntegerField()


class Outcome(models.TextChoices):
    """How an act ended."""

    OK = "ok", "Allowed"
    REFUSED = "refused", "Refused"
    ERROR = "error", "Error"


class Event(models.Model):
    """One line of the ledger. Its position is that of its leaf."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    at = models.DateTimeField(db_default=WallClock())
    acted_at = models.DateTimeField(help_text="The time by which the service acted.")
    event = models.CharField(max_length=64)
    outcome = models.CharField(max_length=8, choices=Outcome, default=Outcome.OK)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=200)
    actor_label = models.CharField(max_length=200)
    on_behalf_of = models.CharField(max_length=200, blank=True)
    subject_kind = models.CharField(max_length=32)
    subject_id = models.CharField(max_length=200)
    subject_label = models.CharField(max_length=200)
    request_id = models.UUIDField(null=True)
    correlation_id = models.CharField(max_length=64, blank=True)
    ip = models.CharField(max_length=45, blank=True)
    session = models.CharField(max_length=64, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)
    fields = models.JSONField(default=dict)
    xact = models.BigIntegerField(db_default=TransactionId())

    class Meta:
        indexes = [
            models.Index(fields=["-at", "-id"], name="event_at"),
            models.Index(fields=["event", "-at", "-id"], name="event_name_at"),
            models.Index(fields=["actor_id", "-at", "-id"], name="event_actor_at"),
            models.Index(
                fields=["subject_kind", "subject_id", "-at", "-id"], name="event_subject_at"
            ),
            models.Index(fields=["subject_label", "-at", "-id"], name="event_label_at"),
            models.Index(fields=["xact", "at", "id"], name="event_xact"),
            models.Index(
                fields=["request_id"],
                name="event_request",
                condition=models.Q(request_id__isnull=False),
            ),
            models.Index(
                fields=["-at", "-id"], name="event_not_ok", condition=~models.Q(outcome=Outcome.OK)
            ),
        ]
        constraints = [
            models.CheckConstraint(
                name="event_outcome_known", condition=models.Q(outcome__in=Outcome.values)
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.id}"

    def entry(self) -> Entry:
        """Return what the leaf covers."""
        return Entry(*(getattr(self, name) for name in COLUMNS))


class LedgerLeaf(models.Model):
    """The position of one event: contiguous from 1. Leaf `seq` has the index seq - 1."""

    seq = models.BigIntegerField(primary_key=True)
    event = models.OneToOneField(Event, on_delete=models.PROTECT, related_name="leaf")
    leaf_hash = models.BinaryField(max_length=32)

    class Meta:
        constraints = [
            models.CheckConstraint(name="leaf_seq_from_one", condition=models.Q(seq__gte=1))
        ]

    def __str__(self) -> str:
        return f"#{self.seq}"


class LedgerNode(models.Model):
    """The hash of a perfect subtree of 256, 65,536, ... leaves, so that proofs stay short work."""

    height = models.PositiveSmallIntegerField()
    index = models.BigIntegerField()
    hash = models.BinaryField(max_length=32)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["height", "index"], include=["hash"], name="node_once")
        ]

    def __str__(self) -> str:
        return f"node {self.height}/{self.index}"


class LedgerTree(models.Model):
    """Where the sequencer stands: one row, a cache of what the leaves say.

    `swept_xact`: every transaction below it has ended and its events have
    leaves. That holds inside one database cluster only, so the cluster is kept
    beside it and a restored database is swept from the start.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    origin = models.CharField(max_length=200)
    size = models.BigIntegerField(default=0)
    peaks = models.BinaryField(default=bytes)
    swept_xact = models.BigIntegerField(default=0)
    cluster = models.CharField(max_length=32, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(name="one_tree", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"{self.origin} at {self.size}"


class Checkpoint(models.Model):
    """A signed tree head. `note` is exported as it stands, outside the database."""

    number = models.BigIntegerField(primary_key=True)
    size = models.BigIntegerField()
    root = models.BinaryField(max_length=32)
    at = models.DateTimeField()
    note = models.TextField()

    class Meta:
        indexes = [models.Index(fields=["size"], name="checkpoint_size")]

    def __str__(self) -> str:
        return f"checkpoint {self.number} at {self.size}"


class VerificationRun(models.Model):
    """One verification of the whole ledger, from a page or the command line."""

    class State(models.TextChoices):
        """Where a run stands."""

        WAITING = "waiting", "Waiting"
        RUNNING = "running", "Running"
        INTACT = "intact", "Intact"
        BROKEN = "broken", "Broken"
        STOPPED = "stopped", "Stopped"

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    actor = models.JSONField()
    asked_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    total = models.BigIntegerField(default=0)
    checked = models.BigIntegerField(default=0)
    checkpoints = models.BigIntegerField(default=0)
    events_per_s = models.PositiveIntegerField(default=0)
    problems = models.JSONField(default=list)

    class Meta:
        indexes = [models.Index(fields=["-asked_at"], name="verification_asked")]

    def __str__(self) -> str:
        return f"verification {self.id} {self.state}"


class Denial(models.Model):
    """Refusals of one kind by one actor, counted until the next flush writes one event.

    Without the count, a scan of guessed addresses would bury the ledger.
    """

    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=200)
    actor_label = models.CharField(max_length=200)
    gate = models.CharField(max_length=100)
    ip = models.CharField(max_length=45, blank=True)
    example = models.CharField(max_length=200)
    count = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField(db_default=Now())
    last_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["actor_kind", "actor_id", "gate", "ip"], name="denial_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.count} refusals at {self.gate}"
