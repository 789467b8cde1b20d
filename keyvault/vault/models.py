"""Tables of the vault: versions of keys, sealed values and the keys that seal them.

Only this package imports this module; everybody else reads versions through
`keyvault.vault.selectors` and changes them through `keyvault.vault.services`.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q


class VersionState(models.TextChoices):
    """Where one version stands; the words are those of the pages."""

    PENDING = "pending", "Rolling out"
    CURRENT = "current", "Current"
    PREVIOUS = "previous", "Grace"
    REVOKED = "revoked", "Revoked"
    DESTROYED = "destroyed", "Destroyed"


class Version(models.Model):
    """One value of a Key. The value itself lies sealed elsewhere; `public` is what may be shown.

    `server` is what names the server that issues it, as the Connection led
    there when the version was begun; empty where that was not recorded.
    `remote` is the provider's identity of the credential, in the form that the
    providers define; empty until the provider has answered. `adopted_at` is when a
    value that people brought was taken in: only such a version may be in use without
    anybody knowing which credential at the provider it is. `suspended_at` is when
    keyvault began to switch it off there; it is empty again once it is switched on.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    key = models.ForeignKey("keyvault.Key", models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=VersionState, default=VersionState.PENDING)
    server = models.JSONField(default=dict)
    remote_id = models.CharField(max_length=300, blank=True)
    remote = models.JSONField(default=dict)
    public = models.JSONField(default=dict)
    fingerprint = models.CharField(max_length=64, blank=True)
    request_id = models.UUIDField(null=True)
    created_at = models.DateTimeField()
    issued_at = models.DateTimeField(null=True)
    promoted_at = models.DateTimeField(null=True)
    suspended_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    destroyed_at = models.DateTimeField(null=True)
    adopted_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    revealed_at = models.DateTimeField(null=True)
    revealed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="revealed_versions"
    )

    class Meta:
        default_permissions = ()
        ordering = ["key", "-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key", "number"], name="version_number_once"),
            models.UniqueConstraint(
                fields=["key"],
                condition=Q(state=VersionState.CURRENT),
                name="version_one_current",
            ),
            models.UniqueConstraint(
                fields=["key"],
                condition=Q(state=VersionState.PENDING),
                name="version_one_pending",
            ),
            models.CheckConstraint(
                condition=Q(state__in=VersionState.values), name="version_state_known"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=[VersionState.CURRENT, VersionState.PREVIOUS])
                | (Q(promoted_at__isnull=False) & (~Q(remote_id="") | Q(adopted_at__isnull=False))),
                name="version_promoted_is_issued",
            ),
            models.CheckConstraint(
                condition=Q(state=VersionState.DESTROYED)
                | Q(state=VersionState.REVOKED, revoked_at__isnull=False)
                | (~Q(state=VersionState.REVOKED) & Q(revoked_at=None)),
                name="version_revoked_has_date",
            ),
            models.CheckConstraint(
                condition=Q(revealed_at=None, revealed_by=None)
                | Q(revealed_at__isnull=False, revealed_by__isnull=False),
                name="version_revealed_by_somebody",
            ),
        ]
        indexes: ClassVar = [models.Index("fingerprint", name="version_by_fingerprint")]

    def __str__(self) -> str:
        return f"version {self.number} of {self.key_id}"

    @property
    def is_current(self) -> bool:
        """Whether this is what whoever uses the key gets."""
        return self.state == VersionState.CURRENT

    @property
    def is_nameless(self) -> bool:
        """Whether it was adopted without its id, so that no call can name it at the provider."""
        return self.adopted_at is not None and not self.remote_id

    @property
    def has_ended(self) -> bool:
        """Whether the provider refuses it, or it never came to be."""
        return self.state in {VersionState.REVOKED, VersionState.DESTROYED}


class Sealed(models.Model):
    """One sealed value, bound to its place: the blob opens nowhere else.

    `kek_id` repeats what stands in the blob, so that a re-wrap can count what
    is left without reading blobs.
    """

    id = models.BigAutoField(primary_key=True)
    subject_kind = models.CharField(max_length=40)
    subject_id = models.UUIDField()
    number = models.PositiveIntegerField()
    field = models.CharField(max_length=60)
    blob = models.BinaryField()
    kek_id = models.CharField(max_length=32)
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["subject_kind", "subject_id", "number", "field"], name="sealed_place_once"
            ),
        ]
        indexes: ClassVar = [models.Index("kek_id", "id", name="sealed_by_kek")]

    def __str__(self) -> str:
        return f"{self.subject_kind} {self.subject_id} {self.number} {self.field}"


class KekState(models.TextChoices):
    """ACTIVE seals and opens, READABLE only opens, RETIRED is needed by no row any more."""

    ACTIVE = "active", "Active"
    READABLE = "readable", "Readable"
    RETIRED = "retired", "Retired"


class Kek(models.Model):
    """A key-encryption key as the database knows it: its id and proof, never the key.

    `first_block` is where the counter of wraps stood when this key was
    registered; see `keyvault.vault.budget`.
    """

    id = models.CharField(primary_key=True, max_length=32)
    check_value = models.CharField(max_length=64)
    state = models.CharField(max_length=10, choices=KekState)
    first_block = models.BigIntegerField()
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["state"], condition=Q(state=KekState.ACTIVE), name="kek_one_active"
            ),
            models.CheckConstraint(condition=Q(state__in=KekState.values), name="kek_state_known"),
        ]

    def __str__(self) -> str:
        return f"{self.state} key {self.id[:8]}"
