"""Tables of agents: who they are, how they prove it, whom we trust to vouch for them, their tokens.

What an agent may do with a key stands in `inventory.Grant`, beside the rights of
people: one table is the truth for both.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import Group
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from approvals.ports import Actor
from keyvault.inventory import naming

SECRET_DAYS = 90
TOKEN_LEAST_S, TOKEN_MOST_S, TOKEN_DEFAULT_S = 60, 3600, 900


class AgentState(models.TextChoices):
    """Where an agent stands. SUSPENDED is the kill switch and may be lifted; RETIRED is final."""

    ACTIVE = "active", "Active"
    SUSPENDED = "suspended", "Suspended"
    RETIRED = "retired", "Retired"


class Agent(models.Model):
    """One machine identity. `name` never changes and is never used again.

    `reads_outside_text` says that people outside can write what it reads, so
    that its behaviour may be steered by them. `contained` marks a suspension by
    somebody on duty, which its owner cannot lift.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    name = models.CharField(max_length=naming.NAME_MAX, unique=True)
    title = models.CharField(max_length=120)
    purpose = models.TextField()
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="owned_agents")
    backup_owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="backed_agents"
    )
    team = models.ForeignKey(Group, models.PROTECT, related_name="agents")
    reads_outside_text = models.BooleanField(default=True)
    state = models.CharField(max_length=10, choices=AgentState, default=AgentState.ACTIVE)
    state_cause = models.CharField(max_length=200, blank=True)
    state_changed_at = models.DateTimeField()
    contained = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    last_seen_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(name__regex=naming.NAME_PATTERN), name="agent_name_is_plain"
            ),
            models.CheckConstraint(
                condition=Q(state__in=AgentState.values), name="agent_state_known"
            ),
            models.CheckConstraint(
                condition=~Q(owner=F("backup_owner")), name="agent_backup_is_another"
            ),
            models.CheckConstraint(
                condition=Q(contained=False) | ~Q(state=AgentState.ACTIVE),
                name="agent_contained_is_stopped",
            ),
        ]
        indexes: ClassVar = [
            models.Index("owner", "name", name="agent_by_owner"),
            models.Index("team", "name", name="agent_by_team"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def as_actor(self) -> Actor:
        """Return the snapshot by which the ledger and the pages know an agent."""
        return Actor("agent", str(self.pk), self.name)


class AgentMembership(models.Model):
    """One stay of an agent in a group, so that a grant to the group reaches it: truth and history."""

    agent = models.ForeignKey(Agent, models.PROTECT, related_name="memberships")
    group = models.ForeignKey(Group, models.PROTECT, related_name="agent_memberships")
    joined_at = models.DateTimeField()
    left_at = models.DateTimeField(null=True)
    request_id = models.UUIDField(null=True)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["agent", "group"],
                condition=Q(left_at=None),
                name="agent_membership_live_once",
            ),
            models.CheckConstraint(
                condition=Q(left_at=None) | Q(left_at__gte=F("joined_at")),
                name="agent_membership_forward",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent_id} in {self.group_id} from {self.joined_at}"


class ClientKind(models.TextChoices):
    """How a client proves itself: by a secret that it holds, or by signing with its own key."""

    SECRET = "secret", "Client secret"
    JWT = "jwt", "Signed by its own key (private_key_jwt)"


class Client(models.Model):
    """One stored way for an agent to authenticate. The agent's own id is the OAuth client id.

    A secret is kept as a keyed digest and ends within 90 days; of a key pair
    only the public half (a JWK, RFC 7517) is here.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    agent = models.ForeignKey(Agent, models.PROTECT, related_name="clients")
    kind = models.CharField(max_length=10, choices=ClientKind)
    public_id = models.CharField(max_length=40, unique=True)
    digest = models.CharField(max_length=64, blank=True)
    jwk = models.JSONField(null=True)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=200)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["-created_at"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=(Q(kind=ClientKind.SECRET, jwk=None) & ~Q(digest=""))
                | Q(kind=ClientKind.JWT, digest="", jwk__isnull=False),
                name="client_has_its_proof",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("created_at")), name="client_expires_later"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.public_id}"


class UsedAssertion(models.Model):
    """A signed assertion that was accepted once and is never accepted again (RFC 7523 section 3)."""

    issuer = models.CharField(max_length=300)
    jti_digest = models.CharField(max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["issuer", "jti_digest"], name="assertion_used_once")
        ]

    def __str__(self) -> str:
        return f"assertion of {self.issuer}"


class TrustKind(models.TextChoices):
    """Who vouches for a job; the kind says which claims must be pinned."""

    GITHUB = "github", "GitHub Actions"
    GITLAB = "gitlab", "GitLab CI"
    KUBERNETES = "kubernetes", "Kubernetes"
    OIDC = "oidc", "Another OpenID Connect issuer"


class Trust(models.Model):
    """One outside issuer whose tokens we exchange. Changes only by approval, which raises `revision`.

    `allowed_hosts` are private addresses that fetching its keys may reach.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    slug = models.CharField(max_length=40, unique=True)
    title = models.CharField(max_length=80)
    kind = models.CharField(max_length=12, choices=TrustKind)
    issuer = models.CharField(max_length=300)
    audience = models.CharField(max_length=300)
    jwks_url = models.CharField(max_length=300, blank=True)
    allowed_hosts = ArrayField(models.CharField(max_length=300), default=list)
    revision = models.PositiveIntegerField(default=1)
    request_id = models.UUIDField(null=True)
    created_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["slug"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=TrustKind.values), name="trust_kind_known"),
            models.UniqueConstraint(
                fields=["issuer", "audience"], condition=Q(ended_at=None), name="trust_open_once"
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class Binding(models.Model):
    """Which claims of a trusted issuer's token make its bearer an agent: all must match exactly."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    trust = models.ForeignKey(Trust, models.PROTECT, related_name="bindings")
    agent = models.ForeignKey(Agent, models.PROTECT, related_name="bindings")
    claims = models.JSONField()
    request_id = models.UUIDField(null=True)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["created_at"]
        constraints: ClassVar = [
            models.CheckConstraint(condition=~Q(claims={}), name="binding_pins_claims")
        ]

    def __str__(self) -> str:
        return f"{self.agent_id} by {self.trust_id}"


class AccessToken(models.Model):
    """One short-lived bearer token of an agent or of a person's command line.

    The token itself is not here: `public_id` finds the row, `digest` is its
    keyed digest. `keys` narrows it to named keys; none means every key granted.
    Whatever it was derived from (`parent`, `client`, `binding`) takes it along
    when it ends; a person's ends with the sessions of its `epoch`.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    public_id = models.CharField(max_length=40, unique=True)
    digest = models.CharField(max_length=64)
    agent = models.ForeignKey(Agent, models.PROTECT, null=True, related_name="tokens")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="access_tokens"
    )
    parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="children")
    client = models.ForeignKey(Client, models.PROTECT, null=True, related_name="tokens")
    binding = models.ForeignKey(Binding, models.PROTECT, null=True, related_name="tokens")
    epoch = models.PositiveIntegerField(null=True)
    keys = ArrayField(models.CharField(max_length=naming.NAME_MAX), null=True)
    holder = models.CharField(max_length=300, blank=True)
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_cause = models.CharField(max_length=120, blank=True)

    class Meta:
        default_permissions = ()
        ordering = ["-issued_at"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(agent__isnull=False, user=None) | Q(agent=None, user__isnull=False),
                name="token_has_one_holder",
            ),
            models.CheckConstraint(
                condition=Q(expires_at__gt=F("issued_at")), name="token_expires_later"
            ),
        ]
        indexes: ClassVar = [
            models.Index("expires_at", condition=Q(ended_at=None), name="token_open_by_expiry"),
        ]

    def __str__(self) -> str:
        return f"token {self.public_id}"
