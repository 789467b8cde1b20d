"""A TCP proxy that fails on purpose, at the moment that hurts most."""

from __future__ import annotations

import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

_CHUNK = 65_536
_POLL_S = 0.05
_SETTLE_S = 0.3


class Fault(StrEnum):
    """What happens once the trigger passes from the client to the server.

    LOSE_REQUEST: it never arrives. LOSE_ANSWER: it arrives, takes effect, and
    the answer is thrown away. HANG: nothing moves any more. REPLY: the proxy
    answers in the server's place and closes.
    """

    NONE = "none"
    LOSE_REQUEST = "lose_request"
    LOSE_ANSWER = "lose_answer"
    HANG = "hang"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class _Plan:
    fault: Fault = Fault.NONE
    trigger: bytes = b""
    reply: bytes = b""


class FaultProxy:
    """Forward loopback connections to `host`:`port` and inject one fault at a time.

    Usable as a context manager; `port` is where clients connect. Only for
    connections without TLS: the trigger is searched for in what passes.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._plan = _Plan()
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.hits = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    @contextmanager
    def failing(self, fault: Fault, trigger: bytes = b"", reply: bytes = b"") -> Iterator[None]:
        """Inject `fault` for the length of the block where `trigger`, a pattern, is found.

        `hits` counts how often it struck.
        """
        self.hits, self._plan = 0, _Plan(fault, trigger, reply)
        try:
            yield
        finally:
            self._plan = _Plan()

    def _accept(self) -> None:
        self._listener.settimeout(_POLL_S)
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._target, 5) as server:
            while not self._stop.is_set() and self._pass(client, server):
                pass

    def _pass(self, client: socket.socket, server: socket.socket) -> bool:
        """Move what is there in both directions; return False when the connection is over."""
        ready, _, _ = select.select([client, server], [], [], _POLL_S)
        if server in ready:
            data = server.recv(_CHUNK)
            client.sendall(data)
            if not data:
                return False
        if client in ready:
            data = client.recv(_CHUNK)
            return bool(data) and self._send(data, client, server)
        return True

    def _send(self, data: bytes, client: socket.socket, server: socket.socket) -> bool:
        plan = self._plan
        if plan.fault is Fault.NONE or not re.search(plan.trigger, data):
            server.sendall(data)
            return True
        self.hits += 1
        if plan.fault is Fault.LOSE_ANSWER:
            server.sendall(data)
            server.settimeout(_SETTLE_S)
            with suppress(TimeoutError):
                server.recv(_CHUNK)
        elif plan.fault is Fault.REPLY:
            client.sendall(plan.reply)
        elif plan.fault is Fault.HANG:
            while not self._stop.wait(_POLL_S) and self._plan is plan:
                pass
        return False
