"""The table of sign-ins that a command line has asked for and a person confirms in a browser."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import ClassVar
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import Q


class DeviceLogin(models.Model):
    """One sign-in by device flow (RFC 8628). Both codes are here as keyed digests only.

    `client_name` is what the asker calls itself, which proves nothing. `epoch`
    is the person's session epoch under which it was allowed. `address` is kept as
    `written`.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    public_id = models.CharField(max_length=40, unique=True)
    digest = models.CharField(max_length=64)
    user_digest = models.CharField(max_length=64)
    client_name = models.CharField(max_length=80, blank=True)
    address = models.CharField(max_length=64)
    asked_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    interval_s = models.PositiveSmallIntegerField()
    polled_at = models.DateTimeField(null=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="device_logins"
    )
    is_allowed = models.BooleanField(null=True)
    epoch = models.PositiveIntegerField(null=True)
    decided_at = models.DateTimeField(null=True)
    used_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user_digest"], condition=Q(decided_at=None), name="device_code_open_once"
            ),
            models.CheckConstraint(
                condition=Q(decided_at=None, user=None, is_allowed=None)
                | Q(decided_at__isnull=False, user__isnull=False, is_allowed__isnull=False),
                name="device_login_decided_by_somebody",
            ),
            models.CheckConstraint(
                condition=Q(used_at=None) | Q(is_allowed=True), name="device_login_used_if_allowed"
            ),
        ]
        indexes: ClassVar = [models.Index("address", "expires_at", name="device_login_by_address")]

    def __str__(self) -> str:
        return f"device login {self.public_id}"

    @property
    def came_from(self) -> str:
        """Return the address of the asker as people know it."""
        try:
            return str(ip_address(self.address))
        except ValueError:
            return self.address


def written(ip: str) -> str:
    """Return an address in a form in which those of one IPv6 network begin alike.

    IPv6 is written in full and without a zone, IPv4 as it is, also where it came in the form
    of IPv6.
    """
    try:
        found = ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped or found.exploded)
    return str(found)
