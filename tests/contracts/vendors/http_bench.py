"""A bench for a provider that speaks HTTP, before a fake of its vendor, with faults on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.plugins.context import Call, call
from keyvault.providers.base import Issued, Provider
from keyvault.providers.testing import Fault, FaultProxy
from tests.servers import free_port


@dataclass
class HttpBench:
    """A provider behind a fault proxy.

    `change` is a pattern that the bytes of a change contain; `path` follows the port in the
    Connection's address.
    """

    provider: Provider
    proxy: FaultProxy
    config: Mapping[str, Any]
    options: Mapping[str, Any]
    admin: Mapping[str, Secret]
    change: bytes
    path: str = ""
    closed_port: int = 0

    def call(self, *, timeout_s: float = 10.0) -> Call:
        port = self.closed_port or self.proxy.port
        guard = outbound.Guard((outbound.Allowance.parse(f"http://127.0.0.1:{port}"),))
        return call(
            guard,
            timeout_s=timeout_s,
            config={"url": f"http://127.0.0.1:{port}{self.path}", **self.config},
            options=self.options,
            admin=self.admin,
        )

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
        body = b'{"errors": [{"message": "' + b" ".join(words) + b'"}]}'
        head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        return self.proxy.failing(Fault.REPLY, self.change, head % len(body) + body)

    def struck(self) -> int:
        return self.proxy.hits

    def admin_secrets(self) -> list[bytes]:
        return [secret.reveal() for secret in self.admin.values()]

    def session(self, issued: Issued):
        raise NotImplementedError("none of these vendors keeps sessions")
