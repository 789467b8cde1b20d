"""What can be asked for by API: one shape for each kind of request. Nothing else is taken (R39)."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from keyvault.api.schemas import (
    MOST_HOSTS,
    MOST_LABELS,
    Days,
    DeployId,
    In,
    Name,
    Reason,
    Slug,
    Ticket,
    Trigger,
)
from keyvault.inventory import naming


class Declared(In):
    """A key as it is asked for. Owner, state and dates are never taken from here.

    `calendar`: a fixed day for its next values, in UTC: `mon 09:00`, `15 09:00` or `last 09:00`.
    """

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
    calendar: Annotated[str, Field(max_length=10)] = ""


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
    allowed_hosts: Annotated[list[str], Field(max_length=MOST_HOSTS)] | None = None
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
