"""The plug-in keeps every promise of a provider; `pytest` in this folder runs it."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from kv_example import Example
from vendor import Vendor, serving

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.plugins.context import call
from keyvault.providers.base import Provider
from keyvault.providers.testing import Fault, FaultProxy, ProviderConformance, listed, make

# What the bytes of a change contain, and of no other request.
CHANGE = rb'"name"|DELETE /'


@dataclass
class ExampleBench:
    """The provider, and a proxy before the vendor that breaks what a test asks for."""

    provider: Provider
    proxy: FaultProxy
    vendor: Vendor
    port: int

    def call(self, *, timeout_s=10.0):
        # Loopback is closed unless it is named, as in a Connection's allow-list.
        guard = outbound.Guard((outbound.Allowance.parse(f"http://127.0.0.1:{self.port}"),))
        return call(
            guard,
            timeout_s=timeout_s,
            config={"url": f"http://127.0.0.1:{self.port}"},
            options={},
            admin={"admin": Secret.of(self.vendor.admin)},
        )

    def lose_request(self):
        return self.proxy.failing(Fault.LOSE_REQUEST, CHANGE)

    def lose_answer(self):
        return self.proxy.failing(Fault.LOSE_ANSWER, CHANGE)

    def hang(self):
        return self.proxy.failing(Fault.HANG)

    @contextmanager
    def down(self):
        # A bound socket that does not listen refuses connections, and nobody else gets its port.
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            self.port = closed.getsockname()[1]
            try:
                yield
            finally:
                self.port = self.proxy.port

    def hostile(self, words):
        body = b" ".join(words)
        head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        return self.proxy.failing(Fault.REPLY, CHANGE, head % len(body) + body)

    def struck(self):
        return self.proxy.hits

    def admin_secrets(self):
        return [self.vendor.admin.encode()]

    def session(self, issued):
        raise NotImplementedError("this vendor has no sessions")


@pytest.fixture
def bench():
    with serving() as vendor, FaultProxy("127.0.0.1", vendor.port) as proxy:
        yield ExampleBench(Example(), proxy, vendor, proxy.port)


class TestExample(ProviderConformance):
    """The public suite; its `bench` is the fixture above."""


def test_keys_on_later_pages_are_found(bench):
    made = [make(bench) for _ in range(5)]
    assert len(listed(bench)) == 5
    for one in made:
        [found] = bench.provider.find(bench.call(), one.attempt)
        assert found.remote_id == one.issued.remote_id
