"""Tables of people: accounts, teams and roles, memberships with a memory, invitations.

Second factors have their tables in `devices.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import F, Q
from django.utils.crypto import salted_hmac
from guardian.backends import ObjectPermissionBackend

from keyvault.accounts import names

BAR_AFTER_RESET = timedelta(hours=24)
ADMINISTRATORS, AUDITORS, RESPONDERS = "administrators", "auditors", "responders"


class UserManager(BaseUserManager["User"]):
    """Make and find accounts by the normal form of the user name."""

    def create_user(self, *, username: str, name: str, email: str, created_at: datetime) -> User:
        """Return a saved account without a password; `services.create_user` is the door.

        Raises names.BadName, IntegrityError on a name that is taken.
        """
        user = self.model(
            username=names.username(username),
            name=name,
            email=email,
            email_key=names.email_key(email),
            created_at=created_at,
        )
        user.set_unusable_password()
        user.save(force_insert=True, using=self._db)
        return user

    def get_by_natural_key(self, username: str | None) -> User:
        """Return the account of that name. Raises User.DoesNotExist."""
        return self.get(username=names.normalise(username or ""))


class User(AbstractBaseUser):
    """One person. Rows are never deleted: the ledger names them for ever.

    There is no superuser: django-guardian lets one through every check, so the
    flag is a constant of the class and not a column.
    """

    is_superuser: ClassVar[bool] = False

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    username = models.CharField(max_length=63, unique=True)
    name = models.CharField(max_length=120)
    email = models.EmailField(blank=True)
    email_key = models.CharField(max_length=254, blank=True, db_index=True, editable=False)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    deactivated_at = models.DateTimeField(null=True, blank=True)
    session_epoch = models.PositiveIntegerField(default=0)
    factor_changed_at = models.DateTimeField(null=True, blank=True)
    may_enrol_until = models.DateTimeField(null=True, blank=True)
    groups: models.ManyToManyField[Group, LiveMember] = models.ManyToManyField(
        Group, through="keyvault.LiveMember", related_name="user_set", related_query_name="user"
    )

    # Set by django-otp's middleware: the factor that verified the session, or None.
    otp_device: models.Model | None

    objects = UserManager()

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name", "email"]

    class Meta:
        """Sort people as lists show them."""

        ordering = ["name", "username"]

    def __str__(self) -> str:
        """Return what pages call this person."""
        return self.name or self.username

    def get_full_name(self) -> str:
        """Return the display name."""
        return str(self)

    def get_session_auth_hash(self) -> str:
        """Return what a session must match; a new password or epoch ends every session."""
        return self._session_hash(secret=None)

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        """Yield the same hash under retired secret keys."""
        for secret in settings.SECRET_KEY_FALLBACKS:
            yield self._session_hash(secret=secret)

    def _session_hash(self, *, secret: str | bytes | None) -> str:
        value = f"{self.password}\x00{self.session_epoch}"
        return salted_hmac(
            "keyvault.accounts.session", value, secret=secret, algorithm="sha256"
        ).hexdigest()

    @property
    def barred_until(self) -> datetime | None:
        """Return until when a changed factor keeps this person from deciding."""
        return self.factor_changed_at and self.factor_changed_at + BAR_AFTER_RESET

    def has_perm(self, perm: str, obj: models.Model | None = None) -> bool:
        """Say whether a live grant gives `perm` on `obj`; there are no global permissions."""
        return obj is not None and ObjectPermissionBackend().has_perm(self, perm, obj)

    def get_all_permissions(self, obj: models.Model | None = None) -> set[str]:
        """Return the permissions that live grants give on `obj`."""
        return (
            set() if obj is None else set(ObjectPermissionBackend().get_all_permissions(self, obj))
        )


class Team(models.Model):
    """What makes a Django group a team that owns keys, or a role."""

    class Kind(models.TextChoices):
        """Tell groups that own keys from groups that hold a duty."""

        TEAM = "team", "Team"
        ROLE = "role", "Role"

    group = models.OneToOneField(Group, on_delete=models.PROTECT, primary_key=True)
    slug = models.SlugField(max_length=63, unique=True)
    title = models.CharField(max_length=120)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    created_at = models.DateTimeField()

    class Meta:
        """Sort as lists show them."""

        ordering = ["title"]

    def __str__(self) -> str:
        """Return the title."""
        return self.title


class Membership(models.Model):
    """One stay of a person in a group, from `joined_at` until `left_at`: truth and history."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="memberships")
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="memberships")
    joined_at = models.DateTimeField()
    left_at = models.DateTimeField(null=True, blank=True)
    request_id = models.UUIDField(null=True, blank=True)

    class Meta:
        """Allow one live stay per person and group; periods never run backwards."""

        constraints = [
            models.UniqueConstraint(
                fields=["user", "group"], condition=Q(left_at=None), name="membership_live_once"
            ),
            models.CheckConstraint(
                condition=Q(left_at=None) | Q(left_at__gte=F("joined_at")),
                name="membership_period_forward",
            ),
        ]
        indexes = [
            models.Index(fields=["group"], condition=Q(left_at=None), name="membership_live_group")
        ]

    def __str__(self) -> str:
        """Return the period in words."""
        return f"{self.user_id} in {self.group_id} from {self.joined_at}"


class LiveMember(models.Model):
    """A row of the view over memberships without an end: what `User.groups` goes through."""

    id = models.BigIntegerField(primary_key=True)
    user = models.ForeignKey(User, on_delete=models.DO_NOTHING, related_name="+")
    group = models.ForeignKey(Group, on_delete=models.DO_NOTHING, related_name="+")

    class Meta:
        """Leave the view to migration 0003."""

        managed = False
        db_table = "keyvault_live_member"

    def __str__(self) -> str:
        """Return the pair."""
        return f"{self.user_id} in {self.group_id}"


class Invitation(models.Model):
    """A way in for one person: to join, or to enrol a new factor after an approved reset.

    The link carries the id and is no secret; the code is typed in, stored as a
    digest, shown once to the inviter and replaced when shown again.
    """

    class Purpose(models.TextChoices):
        """Tell a new person from one whose factor was reset."""

        JOIN = "join", "Join"
        ENROL = "enrol", "New second factor"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    purpose = models.CharField(max_length=8, choices=Purpose.choices)
    username = models.CharField(max_length=63)
    name = models.CharField(max_length=120)
    email = models.EmailField(blank=True)
    groups = models.JSONField(default=list)
    user = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.PROTECT, related_name="invitations"
    )
    invited_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    request_id = models.UUIDField(null=True, blank=True, unique=True)
    code_digest = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Newest first; one open invitation for a user name."""

        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["username"],
                condition=Q(used_at=None, withdrawn_at=None),
                name="invitation_open_once",
            )
        ]

    def __str__(self) -> str:
        """Return whom it is for."""
        return f"{self.purpose} {self.username}"


class Installation(models.Model):
    """The one row that says how far this installation is, and that guards its administrators.

    Whatever changes who administers locks this row first, so that two such acts
    cannot each see the other's administrator as the one who stays.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    set_up_at = models.DateTimeField(null=True, blank=True)
    left_solo_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Allow one row."""

        constraints = [models.CheckConstraint(condition=Q(id=1), name="installation_one_row")]

    def __str__(self) -> str:
        """Return the state in words."""
        return "set up" if self.set_up_at else "not set up"


class SetupToken(models.Model):
    """A one-time token that the terminal prints for the first administrator."""

    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        """Return its state, never its value."""
        return f"set-up token of {self.created_at}"
