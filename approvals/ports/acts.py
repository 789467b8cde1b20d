"""What an act is: its plan, its risk, its execution, and what may go wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, Self, runtime_checkable
from uuid import UUID

JSON = Any  # A value that `json.dumps` accepts; a recursive alias defeats the Django stubs.


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


class Later(Exception):
    """Raised by a job's handler when it is well and has nothing to do for `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"nothing to do for {wait_s} s")
        self.wait_s = wait_s


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

    @property
    def now_text(self) -> str:
        """Return what holds now on one line."""
        return _line(self.now)

    @property
    def then_text(self) -> str:
        """Return what will hold on one line."""
        return _line(self.then)


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


def _line(value: str | tuple[str, ...]) -> str:
    return (value if isinstance(value, str) else ", ".join(value)) or "none"


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
    """One claimed try at a job: executing a request, or a step of the host's own."""

    @property
    def kind(self) -> str:
        """Return the kind of the job."""

    @property
    def subject_id(self) -> UUID:
        """Return what the job serves: a request, or something of the host's."""

    @property
    def is_last(self) -> bool:
        """Say whether the job is held for a person if this try fails."""

    @property
    def now(self) -> datetime:
        """Return the moment by which this try acts."""

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


class HasPages(Protocol):
    """What an action may offer besides: pages of the host. Each method is optional."""

    def subject_url(self, request_id: UUID) -> str:
        """Return the page of what the act concerns, or nothing while there is none."""

    def edit_url(self, request_id: UUID) -> str:
        """Return the form that revises an open request."""

    def again_url(self, request_id: UUID) -> str:
        """Return the form that asks for the same once more, filled in."""
