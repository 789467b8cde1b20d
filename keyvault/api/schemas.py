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


class Declared(In):
    """A key as it is asked for. Owner, state and dates are never taken from here."""

    name: Name
    title: Annotated[str, Field(max_length=120)] = ""
    connection: Slug
    environment: Slug
    team: Slug
    purpose: Annotated[str, Field(max_length=4000)] = ""
    backup_owner: Annotated[UUID | None, Field(strict=False)] = None
    options: dict[Slug, Annotated[str, Field(max_length=1000)]] = Field(default_factory=dict)
    allowed_hosts: Annotated[list[str], Field(max_length=100)] = Field(default_factory=list)
    volume_per_day: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1000
    external_input: bool = False
    delivery_mode: Annotated[str, Field(max_length=20)] = "reveal"
    labels: Annotated[list[str], Field(max_length=20)] = Field(default_factory=list)
    lifetime_days: Days = 90
    cadence_days: Days = 30


class CreateKey(In):
    """Ask for a key."""

    kind: Literal["key.create"]
    declared: Declared
    reason: Reason
    ticket: Ticket = ""


class RevokeKey(In):
    """Ask to end a key for good."""

    kind: Literal["key.revoke"]
    key: Name
    reason: Reason
    ticket: Ticket = ""


class RotateKey(In):
    """Ask to move a key to a new version. `deploy_id`: the deployment that wants it."""

    kind: Literal["key.rotate"]
    key: Name
    trigger: Trigger = "manual"
    deploy_id: DeployId = ""
    reason: Reason
    ticket: Ticket = ""


class RevealSecret(In):
    """Ask that the caller may see the current value once, on the console."""

    kind: Literal["secret.reveal"]
    key: Name
    reason: Reason
    ticket: Ticket = ""


class GiveGrant(In):
    """Ask that an agent, or every agent of a team, may use a key. An agent asks for itself."""

    kind: Literal["grant.give"]
    key: Name
    agent: Annotated[str, Field(max_length=naming.NAME_MAX)] = ""
    team: Annotated[str, Field(max_length=60)] = ""
    days: Days = 30
    reason: Reason
    ticket: Ticket = ""


class AddPlace(In):
    """Ask that a key is written to a place at a destination. People only.

    `target`: the destination's own settings of the place, as docs/destinations has them.
    """

    kind: Literal["place.add"]
    key: Name
    connection: Annotated[str, Field(min_length=1, max_length=40)]
    name: Annotated[str, Field(min_length=1, max_length=120)]
    target: Annotated[
        dict[str, Annotated[str, Field(max_length=20_000)]], Field(max_length=40)
    ] = {}
    wave: Annotated[int, Field(ge=0, le=99)] = 0
    cache_s: Annotated[int, Field(ge=0, le=2_592_000)] = 0
    reason: Reason
    ticket: Ticket = ""


class AddProbe(In):
    """Ask that keyvault asks an address how a dependent is while the key is rotated. People only.

    `private`: the address lies in the own network, and approval opens it for this alone.
    """

    kind: Literal["probe.add"]
    key: Name
    name: Annotated[str, Field(min_length=1, max_length=120)]
    address: Annotated[str, Field(min_length=1, max_length=300)]
    private: bool = False
    reason: Reason
    ticket: Ticket = ""


class RemovePlace(In):
    """Ask to remove a key from the place of one of its dependents. People only."""

    kind: Literal["place.remove"]
    key: Name
    name: Annotated[str, Field(min_length=1, max_length=120)]
    reason: Reason
    ticket: Ticket = ""


class ChangedUse(In):
    """What is to hold for a live key; what is left out stays as it is."""

    delivery_mode: Literal["reveal", "pull"] | None = None
    allowed_hosts: Annotated[list[str], Field(max_length=100)] | None = None
    volume_per_day: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    labels: Annotated[list[str], Field(max_length=MOST_LABELS)] | None = None


class ChangeKey(ChangedUse):
    """Ask that other things hold for one live key."""

    kind: Literal["key.change"]
    key: Name
    reason: Reason
    ticket: Ticket = ""


Ask = Annotated[
    CreateKey
    | RotateKey
    | RevokeKey
    | RevealSecret
    | GiveGrant
    | AddPlace
    | RemovePlace
    | ChangeKey
    | AddProbe,
    Field(discriminator="kind"),
]


class Revise(In):
    """Change an undecided request; every decision on it is cleared. Left out: as it was."""

    declared: Declared | None = None
    reason: Reason | None = None
    ticket: Ticket | None = None
