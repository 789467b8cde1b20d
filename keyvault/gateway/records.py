"""What is written down of each read before it is answered, and who writes it down.

The seam between the HTTP half of the gateway, which decides and answers, and
the log half, which makes a record durable.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec


class LogUnavailable(Exception):
    """The read cannot be written down, so it must not be answered. The gateway says 503."""


class Mode(StrEnum):
    """When an answer may leave: after the disk has the record, or after the kernel has it."""

    DURABLE = "durable"
    PROCESS = "process"


class Door(StrEnum):
    """Which address was asked."""

    KEY = "key"
    BATCH = "batch"
    VAULT = "vault"
    PENDING = "pending"


class Read(msgspec.Struct, frozen=True, gc=False):
    """One version of one key that is about to be handed to one agent.

    at: seconds since 1970, UTC. `token` is the public id of the bearer's token.
    """

    at: float
    agent_id: UUID
    token: str
    key_id: UUID
    key: str
    number: int
    door: Door
    source: str
    request: str


class ReadLog(Protocol):
    """Where reads are written down."""

    async def append(self, reads: tuple[Read, ...]) -> None:
        """Return once all of them are as safe as the mode says. Raises LogUnavailable."""

    def deny(self, source: str, principal: str, reason: str) -> None:
        """Count one refusal. `principal` is the id of the agent, or empty for an unknown caller."""

    def close(self) -> None:
        """Bring what is written to its end, within some seconds."""
