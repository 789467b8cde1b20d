"""The client of ordinary programs: standard library only, safe to share between threads."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from keyvault.client import leases, watching
from keyvault.client.calls import (
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
from keyvault.client.sockets import Sockets, Stream
from keyvault.client.values import Value

T = TypeVar("T")


class Closed(Exception):
    """The client was closed while it waited."""


class Client:
    """Read keys, follow them, call the API. Arguments that are not given come from the environment.

    refresh_s: how long a value is used without asking. stale_for_s: how long
    the last good one is served while the server is away, at most as long as
    its answer allows. Raises BadSettings; calls nobody before it must.
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
        self._sockets = Sockets(found)
        self._closed = threading.Event()

    def get(self, name: str) -> Value:
        """Return a key's value. Raises Away, NotGranted, BadIdentity, Refused."""
        return self.do(self.core.get(name))

    def read(self, name: str, version: str) -> Value:
        """Return one version of a key: `current`, `pending` or a number. Raises as `get`.

        The pending one is told to dependents of a running rotation alone. It is there to be
        laid ready, and must not be used before it is current.
        """
        return self.do(self.core.read(name, version))

    def watch(self, *names: str) -> Iterator[Value]:
        """Yield each key's value, and again whenever its version moves, until `close`.

        Raises NotGranted or BadIdentity once a key may no longer be read.
        """
        with suppress(Closed):
            yield from self._told(watching.watch(self.core, names))

    def keep_fresh(self, *names: str) -> None:
        """Ask for keys in the background, so that `get` answers from memory, until `close`."""
        flow = self.core.keep_fresh(names)
        threading.Thread(target=self._run, args=(flow,), daemon=True).start()

    def heartbeat(self, *, healthy: bool = True) -> None:
        """Tell the gateway which versions are held here. Raises as `get`."""
        self.do(self.core.heartbeat(healthy=healthy))

    def take_lease(
        self, name: str, *, ttl_s: int = leases.USUAL_S, scopes: Sequence[str] = ()
    ) -> Lease:
        """Take a credential of a key for one run; return it at the end. Raises as `get`."""
        return self.do(leases.take(self.core, name, ttl_s=ttl_s, scopes=scopes))

    def renew_lease(self, lease: Lease, *, ttl_s: int = leases.USUAL_S) -> Lease:
        """Let a lease last longer. Raises Refused where a new one has to be taken."""
        return self.do(leases.renew(self.core, lease, ttl_s=ttl_s))

    def return_lease(self, lease: Lease) -> None:
        """End a lease at the provider. Repeating it is safe. Raises as `get`."""
        self.do(leases.give_back(self.core, lease))

    @contextmanager
    def lease(
        self, name: str, *, ttl_s: int = leases.USUAL_S, scopes: Sequence[str] = ()
    ) -> Iterator[Value]:
        """Hold a credential of a key for the length of the block.

        A return that fails is a warning: the lease ends by itself.
        """
        held = self.take_lease(name, ttl_s=ttl_s, scopes=scopes)
        try:
            yield held.value
        finally:
            with leases.left_to_lapse(held):
                self.return_lease(held)

    def do(self, flow: Flow[T]) -> T:
        """Run a flow of the core to its end and return its result."""
        told = self._told(flow)
        while True:
            try:
                next(told)
            except StopIteration as end:
                result: T = end.value
                return result

    def close(self) -> None:
        """Close every connection and end what follows or waits."""
        self._closed.set()
        self._sockets.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, flow: Flow[None]) -> None:
        with suppress(Closed):
            self.do(flow)

    def _told(self, flow: Flow[T]) -> Generator[Value, None, T]:
        """Perform a flow's steps and yield what it tells. Raises Closed."""
        hands, running = _Hands(self._sockets, self._closed), Running(flow)
        try:
            while (step := running.step) is not None:
                if isinstance(step, Tell):
                    yield step.value
                try:
                    answer = hands.perform(step)
                except Away as away:
                    running.fail(away)
                else:
                    running.advance(answer)
            return running.result
        finally:
            hands.hang_up()


class _Hands:
    """Do the steps of one flow; holds its open stream."""

    def __init__(self, sockets: Sockets, closed: threading.Event) -> None:
        self._sockets, self._closed = sockets, closed
        self._stream: Stream | None = None

    def perform(self, step: Step) -> Any:  # noqa: ANN401 - each step has an answer of its own
        """Return what the step is answered with. Raises Away, and Closed once that is so."""
        if self._closed.is_set():
            raise Closed
        match step:
            case Call():
                return self._sockets.ask(step)
            case Listen(call):
                self.hang_up()
                self._stream, answer = self._sockets.open(call)
                return answer
            case Hear(within_s):
                return self._stream.read(within_s) if self._stream else b""
            case Pause(seconds):
                if self._closed.wait(seconds):
                    raise Closed
        return None

    def hang_up(self) -> None:
        """Close the open stream, if there is one."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
