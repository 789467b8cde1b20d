"""`GET /v1/watch`: tell an agent as a stream when the current version of its keys moves.

Server-sent events (WHATWG HTML, section 9.2). A watch is woken by what the
follower read again of its token, its agent or its keys, and by time; each time
it is judged anew before it says a word, by the same rules as a read. It ends
when a right or its token does, without saying which. While the gateway is not
current it stays open and says nothing but that it is there.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined] # It is documented so.

from keyvault.gateway import answers, problems
from keyvault.gateway.cache import Subject
from keyvault.gateway.clock import Clock, Lease
from keyvault.gateway.problems import Problem
from keyvault.gateway.reads import CURRENT, Caller, Found, Reads
from keyvault.gateway.rights import Bearer

if TYPE_CHECKING:
    from keyvault.gateway.requests import Stream, Wire

# Half of the connections of a process (docs/gateway.md), so that reads find one.
WATCHES_MOST, WATCHES_OF_AGENT_MOST = 512, 128
# What a reader that has stopped reading may leave in memory is bounded by this.
EVENTS_MOST = 1000
PING_S = 15.0
_LEAST_S = 0.01

_HEADERS: answers.Headers = [
    ("content-type", "text/event-stream"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    # A buffering proxy would hold events back until there are more of them.
    ("x-accel-buffering", "no"),
]


@dataclass(slots=True, eq=False)
class Watch:
    """One open stream: what it follows, what it has told, and whether it is over."""

    caller: Caller
    names: tuple[str, ...]
    token: str
    agent: UUID
    told: dict[str, int]
    ends_at: datetime
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Return whatever may take its rights away or move a version."""
        return (self.token, self.agent, *self.names)

    def end(self) -> None:
        """Let it end at its next step."""
        self.is_over = True
        self.woken.set()


class _Outlet:
    """The stream of one answer, which ends when nobody holds it any more (there is no `close`).

    The frames of a request may be held by the traceback of a refusal, until the
    collector comes by; therefore they hold this, and only this holds the stream.
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream: Stream | None = stream

    async def send(self, data: bytes) -> None:
        """Queue some bytes. Raises ProtocolClosed."""
        if self._stream is not None:
            await self._stream.send_bytes(data)

    def close(self) -> None:
        """End the answer."""
        self._stream = None


class Watches:
    """All open streams of one gateway process."""

    def __init__(self, *, reads: Reads, clock: Clock, lease: Lease) -> None:
        self._reads, self._clock, self._lease = reads, clock, lease
        self._by_subject: dict[Subject, set[Watch]] = defaultdict(set)
        self._open: set[Watch] = set()
        self._of_agent: Counter[UUID] = Counter()
        self._is_ending = False

    async def serve(self, caller: Caller, names: Sequence[str], wire: Wire) -> None:
        """Stream until the right, the token, the asker or this process ends. Raises Problem before."""
        who = self._reads.bearer(caller)
        found = self._reads.find(who, names, CURRENT)
        with self._admitted(caller, who, found) as watch:
            outlet = _Outlet(wire.response_stream(200, _HEADERS))
            leaving = asyncio.ensure_future(_end_with(wire, watch))
            try:
                with suppress(ProtocolClosed):
                    await self._follow(watch, outlet)
            finally:
                leaving.cancel()
                outlet.close()

    def changed(self, subjects: set[Subject] | None) -> None:
        """Wake whom a change may concern; None: everybody."""
        if subjects is None:
            woken = self._open
        else:
            known = self._by_subject.keys() & subjects
            woken = {watch for subject in known for watch in self._by_subject[subject]}
        for watch in woken:
            watch.woken.set()

    def end(self) -> None:
        """End every stream and admit no more: this process stops."""
        self._is_ending = True
        for watch in self._open:
            watch.end()

    @contextmanager
    def _admitted(self, caller: Caller, who: Bearer, found: Sequence[Found]) -> Iterator[Watch]:
        """Keep a watch among the open ones. Raises Problem: too many."""
        agent = who.agent.id
        if self._is_ending or len(self._open) >= WATCHES_MOST:
            raise problems.too_many_watches(503)
        if self._of_agent[agent] >= WATCHES_OF_AGENT_MOST:
            raise problems.too_many_watches(429)
        told = {one.facts.name: one.facts.number for one in found}
        ends_at = self._ends_at(who, found)
        watch = Watch(caller, tuple(told), who.token.public_id, agent, told, ends_at)
        self._open.add(watch)
        self._of_agent[agent] += 1
        for subject in watch.subjects:
            self._by_subject[subject].add(watch)
        try:
            yield watch
        finally:
            self._forget(watch)

    def _forget(self, watch: Watch) -> None:
        self._open.discard(watch)
        self._of_agent[watch.agent] -= 1
        if not self._of_agent[watch.agent]:
            del self._of_agent[watch.agent]
        for subject in watch.subjects:
            self._by_subject[subject].discard(watch)
            if not self._by_subject[subject]:
                del self._by_subject[subject]

    async def _follow(self, watch: Watch, outlet: _Outlet) -> None:
        await outlet.send(b": watching\n\n")
        for _ in range(EVENTS_MOST):
            await self._wait(watch)
            events = None if watch.is_over else self._events(watch)
            if events is None:
                return
            await outlet.send(events or b": here\n\n")

    async def _wait(self, watch: Watch) -> None:
        """Wait until something changed, something ends, or it is time to say that we are here."""
        left_s = watch.ends_at.timestamp() - self._clock.now()
        try:
            async with asyncio.timeout(min(max(left_s, _LEAST_S), PING_S)):
                await watch.woken.wait()
        except TimeoutError:
            return
        finally:
            watch.woken.clear()

    def _events(self, watch: Watch) -> bytes | None:
        """Judge anew and return what moved; None: it is over."""
        if not self._lease.holds():
            return b"" if self._clock.moment() < watch.ends_at else None
        try:
            who, found = self._reads.judge(watch.caller, watch.names)
        except Problem:
            return None
        watch.ends_at = self._ends_at(who, found)
        moved = [one for one in found if watch.told[one.facts.name] != one.facts.number]
        watch.told.update({one.facts.name: one.facts.number for one in moved})
        return b"".join(map(_event, moved))

    def _ends_at(self, who: Bearer, found: Sequence[Found]) -> datetime:
        """Return when the token or the first of the rights is over.

        A credential that has expired is still read, so a moment that is past is no end.
        """
        now = self._clock.moment()
        ends = [one.facts.not_after for one in found if one.facts.not_after]
        return min([who.token.expires_at, *(end for end in ends if end > now)])


async def _end_with(wire: Wire, watch: Watch) -> None:
    """End a watch whose asker has gone."""
    await wire.client_disconnect()
    watch.end()


def _event(found: Found) -> bytes:
    data = answers.encode({"key": found.facts.name, "version": found.facts.number})
    return b"event: moved\ndata: %b\n\n" % data
