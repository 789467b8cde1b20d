"""The client of programs with an event loop, over httpx. The same flows as `blocking`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from keyvault.client import leases, watching
from keyvault.client.calls import (
    Answer,
    Away,
    Call,
    Flow,
    Hear,
    Listen,
    Pause,
    Running,
    Step,
    Tell,
)
from keyvault.client.core import Core
from keyvault.client.leases import Lease
from keyvault.client.settings import TIMEOUT_S, Settings, from_environment
from keyvault.client.sockets import MOST_BYTES
from keyvault.client.values import Value

T = TypeVar("T")


class AsyncClient:
    """Read keys, follow them, call the API, as `Client` does.

    The arguments are those of `Client`. Raises BadSettings; calls nobody before
    it must.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        token: str | None = None,
        refresh_s: float | None = None,
        stale_for_s: float | None = None,
        timeout_s: float = TIMEOUT_S,
        settings: Settings | None = None,
    ) -> None:
        found = settings or from_environment(
            url=url,
            client_id=client_id,
            client_secret=client_secret,
            token=token,
            refresh_s=refresh_s,
            stale_for_s=stale_for_s,
            timeout_s=timeout_s,
        )
        self.core = Core(found)
        self._http = httpx.AsyncClient(verify=found.tls())
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, name: str) -> Value:
        """Return a key's value. Raises Away, NotGranted, BadIdentity, Refused."""
        return await self.do(self.core.get(name))

    async def read(self, name: str, version: str) -> Value:
        """Return one version of a key: `current`, `pending` or a number. Raises as `get`.

        The pending one is told to dependents of a running rotation alone. It is there to be
        laid ready, and must not be used before it is current.
        """
        return await self.do(self.core.read(name, version))

    async def watch(self, *names: str) -> AsyncIterator[Value]:
        """Yield each key's value, and again whenever its version moves.

        Raises NotGranted or BadIdentity once a key may no longer be read.
        """
        hands, running = _Hands(self._http), Running(watching.watch(self.core, names))
        try:
            while running.step is not None:
                if isinstance(running.step, Tell):
                    yield running.step.value
                await hands.take(running)
        finally:
            await hands.hang_up()

    async def keep_fresh(self, *names: str) -> None:
        """Ask for keys in the background, so that `get` answers from memory, until `close`."""
        task = asyncio.create_task(self.do(self.core.keep_fresh(names)))
        self._tasks.add(task)

    async def heartbeat(self, *, healthy: bool = True) -> None:
        """Tell the gateway which versions are held here. Raises as `get`."""
        await self.do(self.core.heartbeat(healthy=healthy))

    async def take_lease(
        self, name: str, *, ttl_s: int = leases.USUAL_S, scopes: Sequence[str] = ()
    ) -> Lease:
        """Take a credential of a key for one run; return it at the end. Raises as `get`."""
        return await self.do(leases.take(self.core, name, ttl_s=ttl_s, scopes=scopes))

    async def renew_lease(self, lease: Lease, *, ttl_s: int = leases.USUAL_S) -> Lease:
        """Let a lease last longer. Raises Refused where a new one has to be taken."""
        return await self.do(leases.renew(self.core, lease, ttl_s=ttl_s))

    async def return_lease(self, lease: Lease) -> None:
        """End a lease at the provider. Repeating it is safe. Raises as `get`."""
        await self.do(leases.give_back(self.core, lease))

    @asynccontextmanager
    async def lease(
        self, name: str, *, ttl_s: int = leases.USUAL_S, scopes: Sequence[str] = ()
    ) -> AsyncIterator[Value]:
        """Hold a credential of a key for the length of the block.

        A return that fails is a warning: the lease ends by itself.
        """
        held = await self.take_lease(name, ttl_s=ttl_s, scopes=scopes)
        try:
            yield held.value
        finally:
            with leases.left_to_lapse(held):
                await self.return_lease(held)

    async def do(self, flow: Flow[T]) -> T:
        """Run a flow of the core to its end and return its result."""
        hands, running = _Hands(self._http), Running(flow)
        try:
            while running.step is not None:
                await hands.take(running)
            return running.result
        finally:
            await hands.hang_up()

    async def close(self) -> None:
        """End what runs in the background and close every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class _Hands:
    """Do the steps of one flow; holds its open stream."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._stream: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def take(self, running: Running[T]) -> None:
        """Do the step that is next and go on to the one after it."""
        try:
            answer = await self._perform(running.step)
        except Away as away:
            running.fail(away)
        else:
            running.advance(answer)

    async def _perform(self, step: Step | None) -> Any:  # noqa: ANN401 - each step has its own
        """Return what the step is answered with. Raises Away."""
        match step:
            case Call():
                return await self._ask(step)
            case Listen(call):
                return await self._open(call)
            case Hear(within_s):
                return await self._hear(within_s)
            case Pause(seconds):
                await asyncio.sleep(seconds)
        return None

    async def hang_up(self) -> None:
        """Close the open stream, if there is one."""
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = self._chunks = None

    async def _ask(self, call: Call) -> Answer:
        response = await self._send(call)
        body = bytearray()
        try:
            async with asyncio.timeout(call.timeout_s):
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        raise Away(_origin(call), "its answer does not end")
        except TimeoutError as error:
            raise Away(_origin(call), "it did not answer in time") from error
        except httpx.HTTPError as error:
            raise Away(_origin(call), _reason(error)) from error
        finally:
            await response.aclose()
        return Answer(response.status_code, _headers(response), bytes(body))

    async def _open(self, call: Call) -> Answer:
        await self.hang_up()
        self._stream = await self._send(call)
        self._chunks = self._stream.aiter_bytes()
        return Answer(self._stream.status_code, _headers(self._stream))

    async def _send(self, call: Call) -> httpx.Response:
        # Bounded here and by each Hear, for httpx would bound the silence of a stream alike.
        request = self._http.build_request(
            call.method, call.url, headers=call.headers, content=call.body, timeout=None
        )
        try:
            async with asyncio.timeout(call.timeout_s):
                return await self._http.send(request, stream=True)
        except TimeoutError as error:
            raise Away(_origin(call), "it did not answer in time") from error
        except httpx.HTTPError as error:
            raise Away(_origin(call), _reason(error)) from error

    async def _hear(self, within_s: float) -> bytes | None:
        if self._chunks is None:
            return b""
        try:
            async with asyncio.timeout(within_s):
                return await anext(self._chunks, b"")
        except TimeoutError:
            return None
        except httpx.HTTPError:
            return b""


def _origin(call: Call) -> str:
    return str(httpx.URL(call.url).copy_with(raw_path=b"/")).rstrip("/")


def _headers(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): text for name, text in response.headers.items()}


def _reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError):
        return "nobody can be reached there"
    return "the connection broke"
