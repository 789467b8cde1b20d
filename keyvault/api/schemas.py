"""The shapes that go in and out. What comes in may hold nothing else (R39)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from keyvault.inventory import naming

JSON = Any
Days = Annotated[int, Field(ge=1, le=3650)]
Reason = Annotated[str, Field(min_length=1, max_length=4000)]
Ticket = Annotated[str, Field(max_length=120)]
Name = Annotated[str, Field(min_length=1, max_length=naming.NAME_MAX)]
Trigger = Literal["ci", "incident", "manual"]
DeployId = Annotated[str, Field(max_length=120)]
Slug = Annotated[str, Field(min_length=1, max_length=60)]
MOST_LABELS = 20
MOST_HOSTS = 100
Cursor = Annotated[str, Field(max_length=600)]
Limit = Annotated[int, Field(ge=1, le=200)]


class In(BaseModel):
    """A body or a part of one: strict types, and nothing that is not listed."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Out(BaseModel):
    """An answer or a part of one."""

    model_config = ConfigDict(from_attributes=True)


class Person(Out):
    """A person, as programs need one: to compare, and to show."""

    id: UUID
    name: str


class Thing(Out):
    """What something is about, as a snapshot."""

    kind: str
    id: str
    label: str


class Key(Out):
    """The facts of one key. No secret is among them."""

    id: UUID
    name: str
    title: str
    state: str
    environment: str
    provider: str
    connection: str
    team: str
    owner: Person
    backup_owner: Person | None
    purpose: str
    allowed_hosts: list[str]
    volume_per_day: int
    external_input: bool
    delivery_mode: str
    labels: list[str]
    lifetime_days: int
    cadence_days: int
    calendar: str = Field(
        description="The fixed day of its next values, in UTC: `mon 09:00`, `15 09:00` or"
        " `last 09:00`; empty for any day."
    )
    created_at: datetime
    live_at: datetime | None
    expires_at: datetime | None
    rotation_due_at: datetime | None
    revoked_at: datetime | None
    permissions: list[str] = Field(description="What the caller may do with it now.")


class KeyList(Out):
    """One page of keys."""

    items: list[Key]
    next_cursor: str | None


class Version(Out):
    """One version of a key, without its value."""

    number: int
    state: str
    fingerprint: str
    created_at: datetime
    promoted_at: datetime | None
    revoked_at: datetime | None
    destroyed_at: datetime | None
    expires_at: datetime | None
    revealed_at: datetime | None


class VersionList(Out):
    """One page of the versions of a key, newest first."""

    items: list[Version]
    next_cursor: str | None


class Agent(Out):
    """One machine identity."""

    id: UUID
    name: str
    title: str
    purpose: str
    state: str
    owner: Person
    backup_owner: Person | None
    team: str
    reads_outside_text: bool
    created_at: datetime
    last_seen_at: datetime | None


class AgentList(Out):
    """One page of agents."""

    items: list[Agent]
    next_cursor: str | None


class Progress(Out):
    """How far a decision is: how many approvals count, of how many that are needed."""

    have: int
    need: int


class Request(Out):
    """One request, as whoever asked it or may see it needs it."""

    id: UUID
    label: str
    kind: str
    state: str
    revision: int
    title: str
    sentence: str
    requester: Person
    asked_by: Thing | None = Field(description="The agent that asked on the requester's behalf.")
    subject: Thing
    reason: str
    ticket: str
    plan_digest: str
    plan: dict[str, JSON]
    risk_score: int
    progress: Progress | None
    created_at: datetime
    revised_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    ended_at: datetime | None
    end_code: str
    end_sentence: str
    outcome: dict[str, JSON] | None
    page: str = Field(description="Where people read and decide it.")


class RequestList(Out):
    """One page of requests, newest first."""

    items: list[Request]
    next_cursor: str | None


class Event(Out):
    """One line of the ledger. `seq` is null until the sequencer has placed it."""

    id: UUID
    seq: int | None
    at: datetime
    event: str
    sentence: str
    outcome: str
    actor: Thing
    subject: Thing
    on_behalf_of: str
    request_id: UUID | None
    ip: str
    fields: dict[str, JSON]


class EventList(Out):
    """One page of events, newest first."""

    items: list[Event]
    next_cursor: str | None
