"""A bench for a destination that speaks HTTP, before a fake of its place, with faults on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.destinations.base import Destination
from keyvault.plugins.context import Call, call
from keyvault.plugins.faults import Fault, FaultProxy
from tests.servers import free_port


@dataclass
class PlaceBench:
    """A destination behind a fault proxy.

    `configure` gives the settings for an address; `change` is a pattern that only the bodies of
    changes contain, so that a request is lost or arrives as a whole.
    """

    destination: Destination
    proxy: FaultProxy
    server: Any
    configure: Callable[[str], Mapping[str, Any]]
    options: Mapping[str, Any]
    admin: Mapping[str, Secret]
    change: bytes
    closed_port: int = 0

    def call(self, *, timeout_s: float = 10.0) -> Call:
        port = self.closed_port or self.proxy.port
        guard = outbound.Guard((outbound.Allowance.parse(f"http://127.0.0.1:{port}"),))
        return call(
            guard,
            timeout_s=timeout_s,
            config=self.configure(f"http://127.0.0.1:{port}"),
            options=self.options,
            admin=self.admin,
        )

    def consumed(self) -> bytes | None:
        return self.server.consumed()

    def state(self) -> object:
        return self.server.state()

    def overwrite(self) -> None:
        self.server.overwrite()

    def settle(self) -> None:
        self.server.settle()

    def lose_request(self):
        return self.proxy.failing(Fault.LOSE_REQUEST, self.change)

    def lose_answer(self):
        return self.proxy.failing(Fault.LOSE_ANSWER, self.change)

    def hang(self):
        return self.proxy.failing(Fault.HANG)

    @contextmanager
    def down(self) -> Iterator[None]:
        self.closed_port = free_port()
        try:
            yield
        finally:
            self.closed_port = 0

    def hostile(self, words: Sequence[bytes]):
        body = b'{"message": "' + b" ".join(words) + b'"}'
        head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        return self.proxy.failing(Fault.REPLY, self.change, head % len(body) + body)

    def struck(self) -> int:
        return self.proxy.hits

    def admin_secrets(self) -> list[bytes]:
        return [secret.reveal() for secret in self.admin.values()]
