"""What a provider's author supplies so that the conformance suite can run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from keyvault.providers.base import (
    Ambiguous,
    Attempt,
    Context,
    Issued,
    Provider,
    Recovery,
    RemoteKey,
)

MAX_TRIES = 3


class Bench(Protocol):
    """One provider, one key and one real or faithful server with faults on demand.

    A new bench is made for each test, with options that no other test uses.
    """

    provider: Provider

    def call(self, *, timeout_s: float = 10.0) -> Context:
        """Return a context for one call."""

    def lose_request(self) -> AbstractContextManager[None]:
        """Break connections before a change takes effect."""

    def lose_answer(self) -> AbstractContextManager[None]:
        """Break connections after a change took effect and before its answer arrives."""

    def hang(self) -> AbstractContextManager[None]:
        """Accept connections and never answer."""

    def down(self) -> AbstractContextManager[None]:
        """Refuse connections."""

    def hostile(self, words: Sequence[bytes]) -> AbstractContextManager[None]:
        """Answer changes with an error whose text repeats `words`."""

    def struck(self) -> int:
        """Return how often the last fault struck; 0 shows that a test proved nothing."""

    def admin_secrets(self) -> Sequence[bytes]:
        """Return the bytes of the admin credential."""

    def session(self, issued: Issued) -> AbstractContextManager[Session]:
        """Open a session with an issued credential."""


class Session(Protocol):
    """An open session of a consumer."""

    def works(self) -> bool:
        """Say whether the session still answers."""


@dataclass(frozen=True, slots=True)
class Made:
    """A credential together with the attempt that made it."""

    attempt: Attempt
    issued: Issued


def make(bench: Bench, current: Issued | None = None) -> Made:
    """Prepare and create one credential with no fault in the way."""
    attempt = prepare(bench, current)
    return Made(attempt, bench.provider.create(bench.call(), attempt))


def prepare(bench: Bench, current: Issued | None = None, number: int = 1) -> Attempt:
    """Plan one create under a new operation id."""
    return bench.provider.prepare(bench.call(), uuid4().hex, number, current)


def recover(bench: Bench, attempt: Attempt, current: Issued | None = None) -> Made:
    """Repair a create whose answer was lost, by the provider's recovery class.

    This is the reference for callers: CLIENT and NAMED replay; all others end
    whatever the attempt made and try again under the next number.
    """
    provider = bench.provider
    if provider.capabilities(bench.call()).recovery in {Recovery.CLIENT, Recovery.NAMED}:
        return Made(attempt, provider.create(bench.call(), attempt))
    for number in range(attempt.number + 1, attempt.number + 1 + MAX_TRIES):
        for orphan in provider.find(bench.call(), attempt):
            provider.revoke(bench.call(), orphan, kill_sessions=True)
        attempt = provider.prepare(bench.call(), attempt.op_id, number, current)
        try:
            return Made(attempt, provider.create(bench.call(), attempt))
        except Ambiguous:
            continue
    raise AssertionError("the provider never came to rest")


def listed(bench: Bench) -> Mapping[str, RemoteKey]:
    """Return the whole inventory by remote id. Raises AssertionError on a repeated id."""
    found: dict[str, RemoteKey] = {}
    cursor: str | None = None
    while True:
        page = bench.provider.inventory(bench.call(), cursor)
        for key in page.items:
            assert key.remote_id not in found, "one credential is listed twice"
            found[key.remote_id] = key
        if page.cursor is None:
            return found
        cursor = page.cursor


def is_listed(bench: Bench, issued: Issued) -> bool:
    """Say whether a credential is in the inventory and enabled."""
    key = listed(bench).get(issued.remote_id)
    return key is not None and key.is_enabled is not False


def seconds_since(started_at: float) -> float:
    """Return the seconds since a reading of the monotonic clock."""
    return time.monotonic() - started_at
