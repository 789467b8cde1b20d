"""Tables of Connections: configured provider accounts, and every call that may change them."""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.contrib.auth.models import Group
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

SLUG_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"


class Connection(models.Model):
    """One configured account at a provider.

    The admin credential lies sealed in the vault under this id and
    `credential_number`; `admin_label` and `credential_fingerprint` are what
    people may see of it. `allowed_hosts` are the private addresses that calls
    of this Connection may reach. All of these change only by approval, which
    raises `revision`; the credential alone is also renewed by keyvault itself,
    every `renew_days` where that was approved.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    slug = models.CharField(max_length=40, unique=True)
    title = models.CharField(max_length=80)
    provider = models.CharField(max_length=40)
    environment = models.ForeignKey(
        "keyvault.Environment", models.PROTECT, null=True, related_name="connections"
    )
    team = models.ForeignKey(Group, models.PROTECT, null=True, related_name="connections")
    config = models.JSONField(default=dict)
    allowed_hosts = ArrayField(models.CharField(max_length=300), default=list)
    admin_label = models.CharField(max_length=120, blank=True)
    credential_number = models.PositiveIntegerField(default=0)
    credential_fingerprint = models.CharField(max_length=64, blank=True)
    credential_at = models.DateTimeField(null=True)
    renew_days = models.PositiveSmallIntegerField(null=True)
    revision = models.PositiveIntegerField(default=1)
    request_id = models.UUIDField(null=True)
    created_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    checked_at = models.DateTimeField(null=True)
    problems = models.JSONField(default=list)
    inventoried_at = models.DateTimeField(null=True)
    inventory_due_at = models.DateTimeField()
    inventory_failures = models.PositiveIntegerField(default=0)
    foreign_count = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()
        ordering = ["slug"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(slug__regex=SLUG_PATTERN), name="connection_slug_is_plain"
            ),
        ]
        indexes: ClassVar = [models.Index("inventory_due_at", name="connection_by_inventory")]

    def __str__(self) -> str:
        return self.slug


class Act(models.TextChoices):
    """What a call changes at the provider."""

    CREATE = "create", "Create"
    REVOKE = "revoke", "Revoke"


class AttemptState(models.TextChoices):
    """OPEN may have changed the provider; the others are settled.

    DONE had its effect and it is ours; FAILED certainly has none left;
    ORPHANED may have left a credential behind, which the inventory looks for.
    """

    OPEN = "open", "Open"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    ORPHANED = "orphaned", "Orphaned"


class Attempt(models.Model):
    """One intended change at a provider, committed before the call is made.

    Whatever happens to the process or the answer, this row says what to look
    for. `tag` names the attempt at the provider; `plan` is the provider's own
    attempt without its secret part, which lies sealed under this id.
    `confirmed_by` is who says that a change made by hand has been made.
    `request_id` is the request that covers the act, `job_*` the job that does it.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    act = models.CharField(max_length=10, choices=Act)
    connection = models.ForeignKey(Connection, models.PROTECT, related_name="attempts")
    key = models.ForeignKey("keyvault.Key", models.PROTECT, related_name="attempts")
    version_id = models.UUIDField()
    request_id = models.UUIDField()
    job_kind = models.CharField(max_length=60)
    job_subject_id = models.UUIDField()
    number = models.PositiveIntegerField()
    tag = models.CharField(max_length=120)
    plan = models.JSONField(default=dict)
    calls = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=10, choices=AttemptState, default=AttemptState.OPEN)
    note = models.TextField(blank=True)
    confirmed_by = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()
    called_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["-created_at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["act", "version_id", "number"], name="attempt_number_once"
            ),
            models.UniqueConstraint(
                fields=["act", "key"],
                condition=Q(state=AttemptState.OPEN),
                name="attempt_one_open_per_key",
            ),
            models.CheckConstraint(condition=Q(act__in=Act.values), name="attempt_act_known"),
            models.CheckConstraint(
                condition=Q(state__in=AttemptState.values), name="attempt_state_known"
            ),
            models.CheckConstraint(
                condition=Q(state=AttemptState.OPEN, ended_at=None)
                | (~Q(state=AttemptState.OPEN) & Q(ended_at__isnull=False)),
                name="attempt_ended_has_date",
            ),
        ]
        indexes: ClassVar = [models.Index("tag", name="attempt_by_tag")]

    def __str__(self) -> str:
        return f"{self.act} {self.tag}"


class RenewalState(models.TextChoices):
    """PLANNED has called nothing that changes; CALLING may have; IN_USE has the new one in use.

    DONE has ended the old credential, FAILED has left it as it was or was overtaken by hand.
    """

    PLANNED = "planned", "Planned"
    CALLING = "calling", "Being made"
    IN_USE = "in_use", "New one in use"
    DONE = "done", "Done"
    FAILED = "failed", "Ended without effect"


RENEWAL_ENDS = (RenewalState.DONE, RenewalState.FAILED)


class Renewal(models.Model):
    """One renewal of a Connection's own admin credential, written before anything is called.

    `number` is the credential number that it leads to, under which the new value lies sealed
    from before the call. `plan` is the provider's own attempt without its secret part, and
    `attempt` its number. `held_at` says since when it waits for a person, `sentence` why.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    connection = models.ForeignKey(Connection, models.PROTECT, related_name="renewals")
    request_id = models.UUIDField()
    started_by = models.CharField(max_length=200)
    number = models.PositiveIntegerField()
    attempt = models.PositiveIntegerField(default=1)
    calls = models.PositiveIntegerField(default=0)
    plan = models.JSONField(default=dict)
    principal = models.CharField(max_length=300, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=10, choices=RenewalState, default=RenewalState.PLANNED)
    sentence = models.TextField(blank=True)
    held_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    in_use_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["-created_at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["connection"],
                condition=~Q(state__in=["done", "failed"]),
                name="renewal_one_open_per_connection",
            ),
            models.CheckConstraint(
                condition=Q(state__in=RenewalState.values), name="renewal_state_known"
            ),
            models.CheckConstraint(
                condition=(
                    Q(state__in=["done", "failed"]) & Q(ended_at__isnull=False, held_at=None)
                )
                | (~Q(state__in=["done", "failed"]) & Q(ended_at=None)),
                name="renewal_ended_has_date",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} renewal of {self.connection_id}"

    @property
    def is_open(self) -> bool:
        """Say whether it has not come to its end."""
        return self.state not in RENEWAL_ENDS


class TrialState(models.TextChoices):
    """PLANNED has left nothing at the provider; while CALLING something may be there.

    PASSED has ended what it made and proved it. FAILED says why in `sentence`, and what
    may still be there in `left_behind`.
    """

    PLANNED = "planned", "Planned"
    CALLING = "calling", "Under way"
    PASSED = "passed", "Passed"
    FAILED = "failed", "Failed"


TRIAL_ENDS = (TrialState.PASSED, TrialState.FAILED)


class Trial(models.Model):
    """One test run of a Connection: a throwaway credential that is made, tried and ended.

    Its value is nowhere: it lives in the memory of the worker that makes it. `tags` names
    every attempt at the provider, the newest last, each written before its call; `plan` is
    the newest one's public part. `steps` tells what was done, in order.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    connection = models.ForeignKey(Connection, models.PROTECT, related_name="trials")
    request_id = models.UUIDField(unique=True)
    started_by = models.CharField(max_length=200)
    options = models.JSONField(default=dict)
    tags = ArrayField(models.CharField(max_length=120), default=list)
    attempt = models.PositiveIntegerField(default=1)
    plan = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=TrialState, default=TrialState.PLANNED)
    steps = models.JSONField(default=list)
    sentence = models.TextField(blank=True)
    left_behind = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["-created_at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["connection"],
                condition=~Q(state__in=["passed", "failed"]),
                name="trial_one_open_per_connection",
            ),
            models.CheckConstraint(
                condition=Q(state__in=TrialState.values), name="trial_state_known"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["passed", "failed"], ended_at__isnull=False)
                | (~Q(state__in=["passed", "failed"]) & Q(ended_at=None)),
                name="trial_ended_has_date",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} trial of {self.connection_id}"

    @property
    def is_open(self) -> bool:
        """Say whether it has not come to its end."""
        return self.state not in TRIAL_ENDS


class AdoptionState(models.TextChoices):
    """WAITING lies sealed for a decision, TAKEN lives as a version, DROPPED is deleted."""

    WAITING = "waiting", "Waiting"
    TAKEN = "taken", "Taken"
    DROPPED = "dropped", "Dropped"


class Adoption(models.Model):
    """One credential that exists already and is to become a key, or has become one.

    While it waits its value lies sealed under this id. `fingerprint` is the vault's keyed
    one, of which the constraint allows each once: of two people who bring the same value
    at once, one asks. `remote` is the provider's identity of it, as a look there has shown
    it; empty where nobody knows it.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    key = models.OneToOneField("keyvault.Key", models.PROTECT, related_name="adoption")
    connection = models.ForeignKey(Connection, models.PROTECT, related_name="adoptions")
    fingerprint = models.CharField(max_length=64)
    remote_id = models.CharField(max_length=300, blank=True)
    remote = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=AdoptionState, default=AdoptionState.WAITING)
    request_id = models.UUIDField(null=True, db_index=True)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["created_at", "id"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=AdoptionState.values), name="adoption_state_known"
            ),
            models.CheckConstraint(
                condition=Q(state=AdoptionState.WAITING, ended_at=None)
                | (~Q(state=AdoptionState.WAITING) & Q(ended_at__isnull=False)),
                name="adoption_ended_has_date",
            ),
            models.UniqueConstraint(
                fields=["fingerprint"],
                condition=~Q(state=AdoptionState.DROPPED),
                name="adoption_value_once",
            ),
            models.UniqueConstraint(
                fields=["connection", "remote_id"],
                condition=~Q(state=AdoptionState.DROPPED) & ~Q(remote_id=""),
                name="adoption_remote_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.state} adoption of {self.key_id}"


class ShadowKey(models.Model):
    """One credential at a provider that no key of ours answers for, as the last look saw it.

    `remote` is the provider's own description. The row goes when the credential has gone
    or has become a key.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    connection = models.ForeignKey(Connection, models.PROTECT, related_name="shadows")
    remote_id = models.CharField(max_length=300)
    remote = models.JSONField(default=dict)
    made_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(null=True)
    first_seen_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        ordering = ["-first_seen_at", "remote_id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["connection", "remote_id"], name="shadow_seen_once"),
        ]

    def __str__(self) -> str:
        return self.remote_id
