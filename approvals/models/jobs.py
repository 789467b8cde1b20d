"""The job table: outbox, claim, backoff and held list in one row."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Job(models.Model):
    """One piece of work that was promised inside a business transaction.

    `epoch` rises with every claim and fences what an older claim still writes.
    Only the database clock is compared with `due_at` and `lease_until`.
    `is_hasty`: there was news while it ran, so that it looks again at once.
    """

    class State(models.TextChoices):
        READY = "ready", "Ready"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        HELD = "held", "Held"

    kind = models.CharField(max_length=60)
    subject_id = models.UUIDField()
    state = models.CharField(max_length=10, choices=State, default=State.READY)
    due_at = models.DateTimeField(db_default=Now())
    is_hasty = models.BooleanField(db_default=False)
    epoch = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    worker = models.CharField(max_length=120, blank=True, default="")
    rung_at = models.DateTimeField(null=True)
    code = models.CharField(max_length=60, blank=True, default="")
    sentence = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                name="job_state_is_known",
                condition=models.Q(state__in=["ready", "running", "done", "held"]),
            ),
            models.CheckConstraint(
                name="job_runs_under_a_lease",
                condition=~models.Q(state="running") | models.Q(lease_until__isnull=False),
            ),
            # Two open jobs for one subject could be claimed by two workers at once.
            models.UniqueConstraint(
                name="job_one_open_per_subject",
                fields=["kind", "subject_id"],
                condition=models.Q(state__in=["ready", "running", "held"]),
            ),
        ]
        indexes = [
            models.Index(
                name="job_ready_by_due", fields=["due_at"], condition=models.Q(state="ready")
            ),
            models.Index(
                name="job_running_by_lease",
                fields=["lease_until"],
                condition=models.Q(state="running"),
            ),
            models.Index(name="job_held", fields=["id"], condition=models.Q(state="held")),
        ]

    def __str__(self) -> str:
        return f"job {self.pk} {self.kind} {self.state}"
