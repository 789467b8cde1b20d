"""Tables of the inventory: environments, keys and the grants that give access to them.

`Grant` is the only truth about access to a key and its only history: nothing
is deleted, a grant is ended. django-guardian reads the grants that hold now
through two database views, so that a right ends at its minute and not when
somebody tidies up (migration 0004_live_grants).
"""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase

from keyvault.inventory import calendars, naming


class KeyState(models.TextChoices):
    """Where a key stands; the words are those of the pages."""

    REQUESTED = "requested", "Requested"
    LIVE = "live", "Active"
    SUSPENDED = "suspended", "Suspended"
    REVOKED = "revoked", "Revoked"


class DeliveryMode(models.TextChoices):
    """How whoever uses a key comes by its value."""

    REVEAL = "reveal", "Its owner reads it once, after approval"
    PULL = "pull", "Agents and services fetch it by API"


class KeyPermission(models.TextChoices):
    """What a grant lets its holder do with one key."""

    VIEW = "view", "See its facts and history"
    USE = "use", "Use it"
    REVEAL = "reveal", "Ask to see its value"
    ROTATE = "rotate", "Have it rotated"
    REVOKE = "revoke", "Ask to revoke it"
    MANAGE = "manage", "Ask to change it"


class Environment(models.Model):
    """A place where keys are used. Policies match its slug; `protected` asks for more care."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    slug = models.CharField(max_length=40, unique=True)
    title = models.CharField(max_length=80)
    protected = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Key(models.Model):
    """One managed credential, without its value. `name` never changes and is never used again.

    A key is registered when it is asked for, so that its name is reserved; if
    the request ends undone, `released_at` gives the name free and hides the row.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.CharField(max_length=naming.NAME_MAX)
    title = models.CharField(max_length=120)
    environment = models.ForeignKey(Environment, models.PROTECT, related_name="keys")
    connection = models.ForeignKey("keyvault.Connection", models.PROTECT, related_name="keys")
    provider = models.CharField(max_length=40)
    options = models.JSONField(default=dict)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="owned_keys")
    backup_owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="backed_keys"
    )
    team = models.ForeignKey(Group, models.PROTECT, related_name="keys")
    purpose = models.TextField()
    allowed_hosts = ArrayField(models.CharField(max_length=naming.HOST_MAX), default=list)
    volume_per_day = models.PositiveIntegerField()
    external_input = models.BooleanField(default=False)
    delivery_mode = models.CharField(max_length=10, choices=DeliveryMode)
    state = models.CharField(max_length=10, choices=KeyState, default=KeyState.REQUESTED)
    labels = ArrayField(models.CharField(max_length=40), default=list)
    lifetime_days = models.PositiveIntegerField()
    cadence_days = models.PositiveIntegerField()
    calendar = models.CharField(max_length=10, blank=True, default="", db_default="")
    created_at = models.DateTimeField()
    live_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    rotation_due_at = models.DateTimeField(null=True)
    rotation_cause = models.CharField(max_length=120, blank=True)
    revoked_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True)
    # One request can bring many keys.
    request_id = models.UUIDField(null=True, db_index=True)

    class Meta:
        ordering = ["name"]
        default_permissions = ()
        permissions = [(f"{value}_key", label) for value, label in KeyPermission.choices]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["name"], condition=Q(released_at=None), name="key_name_reserved_once"
            ),
            models.CheckConstraint(
                condition=Q(name__regex=naming.NAME_PATTERN), name="key_name_is_plain"
            ),
            models.CheckConstraint(condition=Q(state__in=KeyState.values), name="key_state_known"),
            models.CheckConstraint(
                condition=Q(delivery_mode__in=DeliveryMode.values), name="key_delivery_known"
            ),
            models.CheckConstraint(
                condition=Q(expires_at=None) | Q(expires_at__gt=F("created_at")),
                name="key_expires_after_created",
            ),
            models.CheckConstraint(
                condition=Q(lifetime_days__gte=1, cadence_days__gte=1), name="key_spans_positive"
            ),
            models.CheckConstraint(
                condition=Q(calendar__regex=calendars.PATTERN), name="key_calendar_known"
            ),
            models.CheckConstraint(
                condition=Q(released_at=None) | Q(state=KeyState.REQUESTED),
                name="key_released_only_unborn",
            ),
            models.CheckConstraint(
                condition=Q(state=KeyState.REQUESTED, live_at=None)
                | Q(live_at__isnull=False, expires_at__isnull=False),
                name="key_live_has_dates",
            ),
            models.CheckConstraint(
                condition=Q(state=KeyState.REVOKED, revoked_at__isnull=False)
                | (~Q(state=KeyState.REVOKED) & Q(revoked_at=None)),
                name="key_revoked_has_date",
            ),
            models.CheckConstraint(
                condition=~Q(owner=F("backup_owner")), name="key_backup_is_another"
            ),
        ]
        indexes: ClassVar = [
            models.Index("expires_at", condition=Q(state=KeyState.LIVE), name="key_live_by_expiry"),
            models.Index("owner", "name", name="key_by_owner"),
            models.Index("team", "name", name="key_by_team"),
        ]

    def __str__(self) -> str:
        return self.name


class Grant(models.Model):
    """A permission on one key for one person, group or agent, over a half-open span of time."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    key = models.ForeignKey(Key, models.PROTECT, related_name="grants")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="grants"
    )
    group = models.ForeignKey(Group, models.PROTECT, null=True, related_name="grants")
    agent = models.ForeignKey("keyvault.Agent", models.PROTECT, null=True, related_name="grants")
    permission = models.CharField(max_length=10, choices=KeyPermission)
    reason = models.CharField(max_length=80)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    request_id = models.UUIDField(null=True)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(user__isnull=False, group=None, agent=None)
                | Q(user=None, group__isnull=False, agent=None)
                | Q(user=None, group=None, agent__isnull=False),
                name="grant_has_one_holder",
            ),
            # An agent works: it neither reads a value on a page nor decides about a key.
            models.CheckConstraint(
                condition=Q(agent=None) | Q(permission=KeyPermission.USE),
                name="grant_agent_only_uses",
            ),
            models.CheckConstraint(
                condition=Q(agent=None) | Q(ends_at__isnull=False), name="grant_agent_ends"
            ),
            models.CheckConstraint(
                condition=Q(permission__in=KeyPermission.values), name="grant_permission_known"
            ),
            models.CheckConstraint(
                condition=Q(ends_at=None) | Q(ends_at__gt=F("starts_at")),
                name="grant_ends_after_start",
            ),
            models.UniqueConstraint(
                fields=["key", "user", "permission"],
                condition=Q(ended_at=None, user__isnull=False),
                name="grant_open_once_per_user",
            ),
            models.UniqueConstraint(
                fields=["key", "group", "permission"],
                condition=Q(ended_at=None, group__isnull=False),
                name="grant_open_once_per_group",
            ),
            models.UniqueConstraint(
                fields=["key", "agent", "permission"],
                condition=Q(ended_at=None, agent__isnull=False),
                name="grant_open_once_per_agent",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.permission} on {self.key_id}"


class LiveUserGrant(UserObjectPermissionBase):
    """A grant to a person that holds now, as django-guardian wants to read it: a view."""

    id = models.UUIDField(primary_key=True)
    permission = models.ForeignKey(Permission, models.DO_NOTHING)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.DO_NOTHING)
    content_object = models.ForeignKey(Key, models.DO_NOTHING)

    class Meta:
        managed = False
        db_table = "keyvault_live_user_grant"
        default_permissions = ()


class LiveGroupGrant(GroupObjectPermissionBase):
    """A grant to a group that holds now, as django-guardian wants to read it: a view."""

    id = models.UUIDField(primary_key=True)
    permission = models.ForeignKey(Permission, models.DO_NOTHING)
    group = models.ForeignKey(Group, models.DO_NOTHING)
    content_object = models.ForeignKey(Key, models.DO_NOTHING)

    class Meta:
        managed = False
        db_table = "keyvault_live_group_grant"
        default_permissions = ()
