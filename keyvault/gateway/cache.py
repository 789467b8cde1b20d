"""Everything that a gateway answers from: agents, tokens and sealed keys, in memory.

It holds neither a plain value nor a plain data key. All changes of one look at
the database are applied between two steps of the event loop, so that no read
sees half of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

Subject = UUID | str
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Stay:
    """One stay of an agent in a group, half-open."""

    group: int
    joined_at: datetime
    left_at: datetime | None


@dataclass(frozen=True, slots=True)
class Agent:
    """A machine identity that is active now. `holder` is its id as grants name it."""

    id: UUID
    name: str
    holder: bytes
    stays: tuple[Stay, ...] = ()


@dataclass(frozen=True, slots=True)
class Token:
    """An open token. `agent` is None for a person's; `keys` None means all that are granted."""

    public_id: str
    digest: str
    agent: UUID | None
    expires_at: datetime
    keys: frozenset[str] | None


@dataclass(slots=True)
class Changes:
    """What one look at the database found. None says that the subject opens nothing any more."""

    agents: Mapping[UUID, Agent | None] = field(default_factory=dict)
    tokens: Mapping[str, Token | None] = field(default_factory=dict)
    keys: Mapping[str, bytes | None] = field(default_factory=dict)

    def subjects(self) -> set[Subject]:
        """Return what was read again: ids of agents, public ids of tokens, names of keys."""
        return {*self.agents, *self.tokens, *self.keys}


class Cache:
    """Agents by id, tokens by public id, packed keys by name. `epoch` counts what was applied."""

    __slots__ = ("agents", "epoch", "keys", "tokens")

    def __init__(self) -> None:
        self.agents: dict[UUID, Agent] = {}
        self.tokens: dict[str, Token] = {}
        self.keys: dict[str, bytes] = {}
        self.epoch = 0

    def apply(self, changes: Changes) -> None:
        """Take over changes at once."""
        _replace(self.agents, changes.agents)
        _replace(self.tokens, changes.tokens)
        _replace(self.keys, changes.keys)
        self.epoch += 1

    def forget_expired(self, now: datetime) -> None:
        """Drop tokens that are over, so that they do not pile up."""
        over = [ident for ident, token in self.tokens.items() if token.expires_at <= now]
        for ident in over:
            del self.tokens[ident]


def _replace(into: dict[K, V], found: Mapping[K, V | None]) -> None:
    for key, value in found.items():
        if value is None:
            into.pop(key, None)
        else:
            into[key] = value
