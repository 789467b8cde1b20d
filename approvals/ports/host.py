"""What approvals asks of its host: people, fresh factors, a ledger and a signing key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from approvals.ports.acts import JSON, Actor, Subject

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@dataclass(frozen=True, slots=True)
class Standing:
    """What makes one person's decision count.

    `barred_until` is set for 24 h after a factor reset. `linked` are other
    accounts of the same human, which share one vote.
    """

    person_id: UUID
    label: str
    active: bool
    enrolled: bool
    barred_until: datetime | None = None
    linked: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class Member:
    """One live membership: a person, the group's slug and when they joined."""

    person_id: UUID
    group: str
    joined_at: datetime


class Directory(Protocol):
    """Who people are, at this moment."""

    def standings(self, person_ids: Collection[UUID]) -> Mapping[UUID, Standing]:
        """Return the standing of each known id."""

    def members(self, groups: Collection[str]) -> Sequence[Member]:
        """Return live memberships of groups given by slug."""

    def solo(self) -> bool:
        """Say whether the installation still has fewer than two enrolled administrators."""

    def actor(self, person_id: UUID) -> Actor:
        """Return the snapshot of a person for the ledger."""

    def only_looks(self, person_id: UUID) -> bool:
        """Say whether a person is here to look at what others do, and to change nothing."""

    def answering_for(self, askers: Collection[Actor]) -> Mapping[Actor, frozenset[UUID]]:
        """Return the people who answer for each machine now: they could make it ask anything."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A fresh second factor, bound to one digest and used once."""

    id: UUID
    person_id: UUID
    method: str
    digest: str
    proved_at: datetime
    used_at: datetime | None = None


class NotPresent(Exception):
    """The fresh second factor is missing, too old, used, or bound to something else."""


class Presence(Protocol):
    """Fresh second factors, taken by the host beside its shared lockout."""

    def ask(
        self, request: HttpRequest, *, sentence: str, digest: str, title: str = ""
    ) -> Proof | HttpResponse:
        """Return a proof that the POST carries, or the page to answer with instead.

        That page repeats the sentence and the digest, keeps every posted field
        and posts them again to the same address together with the code.
        """

    def consume(self, proof_id: UUID, *, person_id: UUID, digest: str, now: datetime) -> Proof:
        """Use a proof up, inside the caller's transaction. Raises NotPresent."""


class Recorder(Protocol):
    """The host's ledger."""

    def record(
        self,
        event: str,
        *,
        actor: Actor,
        subject: Subject,
        now: datetime,
        fields: Mapping[str, JSON] | None = None,
        outcome: str = "ok",
        request_id: UUID | None = None,
    ) -> UUID:
        """Write one event inside the caller's transaction and return its id."""


class Signer(Protocol):
    """The key that signs receipts. `public` is the raw Ed25519 public key, 32 bytes."""

    key_id: str
    public: bytes

    def sign(self, message: bytes) -> bytes:
        """Return an Ed25519 signature over `message` (RFC 8032)."""
