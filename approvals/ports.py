"""The whole contract between approvals and the application that hosts it.

The host registers actions and binds four ports once, at start-up: a recorder
for the ledger, a signer for receipts, a directory of people and a presence
check for fresh second factors. Nothing here imports a framework, so that host
and tests can implement the ports with plain objects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable
from uuid import UUID

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

_T = TypeVar("_T")
JSON = Any  # A value that `json.dumps` accepts; a recursive alias defeats the Django stubs.


class NotBound(RuntimeError):
    """A port is used before the host has bound it: approvals fails closed."""


class NotVisible(LookupError):
    """The thing does not exist or this person may not see it; both look the same."""


class Unfinished(Exception):
    """Raised by `execute` when a try may succeed later; the job backs off and tries again."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


class NeedsPerson(Unfinished):
    """Raised by `execute` when a person must act first; the job is held and shown as held."""


class CannotExecute(Unfinished):
    """Raised by `execute` when no later try can succeed; the request fails with this reason."""


class LostClaim(RuntimeError):
    """Another worker holds this job now; whatever was about to be written must not be."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, as a snapshot that outlives the account. `kind` is user, agent or system."""

    kind: str
    id: str
    label: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What is acted upon, as a snapshot: kind ("key", "request"), id and label."""

    kind: str
    id: str
    label: str


@dataclass(frozen=True, slots=True)
class Change:
    """One row of a plan: a field, what holds now and what will hold. Lists render as chips."""

    field: str
    now: str | tuple[str, ...]
    then: str | tuple[str, ...]
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Exactly what an approver reads and signs.

    `body` holds every further parameter that execution obeys, so that the
    digest covers it even where the page shows it in other words.
    """

    title: str
    sentence: str
    target: Subject
    fingerprint: str
    changes: tuple[Change, ...]
    body: Mapping[str, JSON] = field(default_factory=dict)
    breaks: tuple[str, ...] = ()
    undo: str = ""

    def to_json(self) -> dict[str, JSON]:
        """Return the plan as plain JSON values, ready for canonical encoding."""
        return {
            "title": self.title,
            "sentence": self.sentence,
            "target": {"kind": self.target.kind, "id": self.target.id, "label": self.target.label},
            "fingerprint": self.fingerprint,
            "changes": [
                {
                    "field": row.field,
                    "now": _plain(row.now),
                    "then": _plain(row.then),
                    "warning": row.warning,
                }
                for row in self.changes
            ],
            "body": dict(self.body),
            "breaks": list(self.breaks),
            "undo": self.undo,
        }


def _plain(value: str | tuple[str, ...]) -> str | list[str]:
    return value if isinstance(value, str) else list(value)


@dataclass(frozen=True, slots=True)
class RiskPoint:
    """One signed contribution to a risk score, with the evidence for it."""

    points: int
    title: str
    evidence: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an execution achieved: one sentence and facts to show. Holds no secret."""

    sentence: str
    facts: Mapping[str, str] = field(default_factory=dict)


class Run(Protocol):
    """One claimed try at executing a request."""

    now: datetime

    def fence(self) -> None:
        """Raise LostClaim unless this try still holds the job; call inside every write."""

    def reached(self, point: str) -> None:
        """Mark a step as passed. Tests stop the process here to prove recovery."""


@runtime_checkable
class Action(Protocol):
    """One approvable act of the host."""

    kind: ClassVar[str]
    title: ClassVar[str]

    def to_payload(self) -> dict[str, JSON]:
        """Return what must be stored to rebuild this action later; no secret."""

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on a payload of another shape."""

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return names and values that policies match on, for example environment."""

    def people(self, role: str) -> frozenset[UUID]:
        """Return the people in a role that the host knows: "owner", "owner_team"."""

    def visible_to(self, person_id: UUID) -> bool:
        """Say whether a person who neither asked nor may decide can see the request."""

    def describe(self) -> Plan:
        """Return the exact plan against the state of the world now."""

    def risk(self) -> Sequence[RiskPoint]:
        """Return the points that add up to the risk of this act."""

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Do it. Idempotent on `request_id`; raises Unfinished and its kinds, LostClaim."""

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Undo reservations when a request ends undone; runs in that same transaction."""


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
    """The key that signs receipts."""

    key_id: str

    def sign(self, message: bytes) -> bytes:
        """Return an Ed25519 signature over `message` (RFC 8032)."""


@dataclass(slots=True)
class _Ports:
    recorder: Recorder | None = None
    signer: Signer | None = None
    directory: Directory | None = None
    presence: Presence | None = None


_bound = _Ports()
_actions: dict[str, type[Action]] = {}


def bind(
    *, recorder: Recorder, signer: Signer | None, directory: Directory, presence: Presence
) -> None:
    """Bind the host. A missing signer means a sealed start: decisions are then refused."""
    _bound.recorder, _bound.signer = recorder, signer
    _bound.directory, _bound.presence = directory, presence


def recorder() -> Recorder:
    """Return the ledger. Raises NotBound."""
    return _need(_bound.recorder, "recorder")


def signer() -> Signer:
    """Return the receipt signer. Raises NotBound: without a receipt there is no decision."""
    return _need(_bound.signer, "signer")


def directory() -> Directory:
    """Return the directory of people. Raises NotBound."""
    return _need(_bound.directory, "directory")


def presence() -> Presence:
    """Return the presence check. Raises NotBound."""
    return _need(_bound.presence, "presence")


def _need(port: _T | None, name: str) -> _T:
    if port is None:
        message = f"approvals has no {name}: the host binds its ports when it starts"
        raise NotBound(message)
    return port


def register(action_class: type[Action]) -> type[Action]:
    """Register an action under its kind; usable as a decorator. A second one raises."""
    if _actions.setdefault(action_class.kind, action_class) is not action_class:
        message = f"two actions are registered as {action_class.kind}"
        raise ValueError(message)
    return action_class


def action_class(kind: str) -> type[Action]:
    """Return the class registered as `kind`. Raises LookupError."""
    if kind not in _actions:
        message = f"no action is registered as {kind}"
        raise LookupError(message)
    return _actions[kind]


def kinds() -> Mapping[str, type[Action]]:
    """Return every registered action by kind."""
    return dict(_actions)
