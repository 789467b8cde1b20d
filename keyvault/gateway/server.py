"""The application that granian serves: addresses, problems, and the life of one process.

granian --interface rsgi keyvault.gateway.server:application
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TYPE_CHECKING

from keyvault.gateway import answers, origins, problems, requests, stopping
from keyvault.gateway.answers import Answer
from keyvault.gateway.cache import Subject
from keyvault.gateway.clock import Clock, Lease
from keyvault.gateway.follower import Follower
from keyvault.gateway.heartbeats import Heartbeats
from keyvault.gateway.limits import Rate, TooMany
from keyvault.gateway.opening import Opener
from keyvault.gateway.problems import Problem
from keyvault.gateway.reads import CURRENT, PENDING, Caller, Reads, version_number
from keyvault.gateway.records import ReadLog
from keyvault.gateway.requests import Wire
from keyvault.gateway.settings import Settings
from keyvault.gateway.vault_api import VaultApi
from keyvault.gateway.watches import Watches

if TYPE_CHECKING:
    from granian.rsgi import Scope

log = logging.getLogger(__name__)

_KEYS = "/v1/keys/"
_NAMES_MOST = 50
_GET = ("GET", "HEAD")
_REFUSED = frozenset({401, 403, 404})
_NONE, _ONE, _MANY = frozenset[str](), frozenset({"version"}), frozenset({"names"})

# A door that streams has answered by itself and returns None.
Door = Callable[["Scope", Wire, Caller], Awaitable[Answer | None]]


class Application:
    """One gateway process: what it is told, what it knows, and the doors to it."""

    def __init__(self, told: Settings, readlog: ReadLog) -> None:
        """Build the parts; nothing runs before granian calls `__rsgi_init__`."""
        self._told = told
        self._clock, self._lease = Clock(), Lease(told.stale_max_s)
        self._opener = Opener(told.kek, told.keys_dir)
        self._follower = Follower(
            told, self._clock, self._lease, fits=self._opener.fits, changed=self._changed
        )
        self._reads = Reads(
            follower=self._follower,
            clock=self._clock,
            lease=self._lease,
            opener=self._opener,
            readlog=readlog,
            agent_rate=told.agent_rate,
            console=told.console,
        )
        self._watches = Watches(reads=self._reads, clock=self._clock, lease=self._lease)
        self._heartbeats = Heartbeats(told.database, reads=self._reads, clock=self._clock)
        self._vault = VaultApi(
            reads=self._reads, clock=self._clock, lease=self._lease, opener=self._opener
        )
        self._sources, self._refused = Rate(told.source_rate), Rate(told.refusal_rate)
        self._boot, self._numbers = secrets.token_hex(6), count(1)
        self._readlog = readlog
        self._tasks: list[asyncio.Task[None]] = []
        self._doors: dict[tuple[str, str], Door] = {
            ("GET", "/v1/keys"): self._batch,
            ("GET", "/v1/watch"): self._watch,
            ("POST", "/v1/heartbeat"): self._heartbeat,
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._ready,
        }

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to follow the database; until it has, every read is refused."""
        stopping.on_stop(self._watches.end, loop)
        running = (self._follower.run(), self._heartbeats.run())
        self._tasks = [loop.create_task(run) for run in running]

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say goodbye, so that the console waits for this process no longer."""
        for task in self._tasks:
            task.cancel()
        loop.run_until_complete(self._heartbeats.flush())
        loop.run_until_complete(self._follower.end())
        self._readlog.close()

    async def __rsgi__(self, scope: Scope, wire: Wire) -> None:
        """Serve one request. Whatever goes wrong inside is a 500 without a word of it."""
        source = origins.peer(scope.client)
        if self._told.proxies:
            forwarded = scope.headers.get("x-forwarded-for") or ""
            source = origins.source(source, forwarded, self._told.proxies)
        request_id = f"{self._boot}{next(self._numbers):x}"
        try:
            self._sources.count(source)
            answer = await self._answer(scope, wire, source, request_id)
        except Problem as problem:
            answer = self._refuse(problem, source).answer(request_id)
        except TooMany:
            answer = problems.too_many().answer(request_id)
        except Exception:
            log.exception("request %s failed", request_id)
            answer = problems.broken().answer(request_id)
        if answer is None:
            return
        wire.response_bytes(*answer)
        if isinstance(answer.body, bytearray):
            answer.body[:] = bytes(len(answer.body))

    def _answer(
        self, scope: Scope, wire: Wire, source: str, request_id: str
    ) -> Awaitable[Answer | None]:
        path, method = scope.path, scope.method
        caller = Caller(requests.token(scope), source, request_id)
        if path.startswith(_KEYS) and method == "GET":
            return self._key(scope, caller, path[len(_KEYS) :])
        requests.check_address(scope)
        door = self._doors.get((method, path)) or self._vault.door(method, path)
        if door is None:
            raise self._nowhere(path)
        return door(scope, wire, caller)

    def _key(self, scope: Scope, caller: Caller, name: str) -> Awaitable[Answer]:
        """`GET /v1/keys/{name}`: one key."""
        requests.check_address(scope)
        wanted = CURRENT
        if scope.query_string:
            text = requests.query(scope, _ONE).get("version", CURRENT)
            wanted = text if text == PENDING else version_number(text)
        known = scope.headers.get("if-none-match") or ""
        return self._reads.key(caller, name, wanted, known=known)

    async def _batch(self, scope: Scope, _wire: Wire, caller: Caller) -> Answer:
        """`GET /v1/keys?names=a,b`: several keys at once, or none of them."""
        return await self._reads.keys(caller, _names(scope))

    async def _watch(self, scope: Scope, wire: Wire, caller: Caller) -> None:
        """`GET /v1/watch?names=a,b`: a stream that says when the version of a key moves."""
        await self._watches.serve(caller, _names(scope), wire)

    async def _heartbeat(self, scope: Scope, wire: Wire, caller: Caller) -> Answer:
        """`POST /v1/heartbeat`: an agent says which versions it has loaded."""
        requests.query(scope, _NONE)
        return self._heartbeats.take(caller, await requests.body(wire))

    async def _health(self, _scope: Scope, _wire: Wire, _caller: Caller) -> Answer:
        """`GET /healthz`: this process runs."""
        return answers.of_json(200, {"status": "ok"})

    async def _ready(self, _scope: Scope, _wire: Wire, _caller: Caller) -> Answer:
        """`GET /readyz`: this process can hand out keys; if not, the word says why."""
        if self._opener.sentence:
            return answers.of_json(503, {"status": "sealed"})
        if not self._lease.holds():
            return answers.of_json(503, {"status": "not current"})
        return answers.of_json(200, {"status": "ready"})

    def _nowhere(self, path: str) -> Problem:
        allowed = sorted({known for known, place in self._doors if place == path})
        if path.startswith(_KEYS):
            allowed = ["GET"]
        return problems.wrong_method(", ".join(allowed)) if allowed else problems.no_address()

    def _refuse(self, problem: Problem, source: str) -> Problem:
        """Note a refusal of its source; whoever collects them is told to slow down.

        Only refused requests are: those of others behind the same address go on.
        """
        if problem.status not in _REFUSED:
            return problem
        self._readlog.deny(source, problem.principal, problem.kind)
        try:
            self._refused.count(source)
        except TooMany:
            return problems.too_many()
        return problem

    def _changed(self, subjects: set[Subject] | None) -> None:
        """Hear what the follower read again; None: all of it."""
        self._watches.changed(subjects)


def _names(scope: Scope) -> list[str]:
    """Return the keys that a request names. Raises Problem."""
    names = [name for name in requests.query(scope, _MANY).get("names", "").split(",") if name]
    if not 1 <= len(set(names)) == len(names) <= _NAMES_MOST:
        raise problems.bad_request(
            f"`names` holds 1 to {_NAMES_MOST} names of keys, each once, between commas."
        )
    return names
