"""Benches that put providers over HTTP before the fakes of their vendors, with faults on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.plugins.context import Call, call
from keyvault.providers.anthropic import Anthropic
from keyvault.providers.anthropic.organization import api
from keyvault.providers.base import Attempt, Capabilities, Context, Issued, Provider, Shape
from keyvault.providers.openai import OpenAI
from keyvault.providers.testing import Fault, FaultProxy
from tests.contracts.vendors.anthropic_server import AnthropicServer
from tests.contracts.vendors.openai_server import OpenAIServer
from tests.servers import free_port


@dataclass
class HttpBench:
    """A provider behind a fault proxy. `change` is what the bytes of a change contain."""

    provider: Provider
    proxy: FaultProxy
    config: Mapping[str, Any]
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
            config={**self.config, "url": f"http://127.0.0.1:{port}"},
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
        body = b'{"error": {"message": "' + b" ".join(words) + b'"}}'
        head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        return self.proxy.failing(Fault.REPLY, self.change, head % len(body) + body)

    def struck(self) -> int:
        return self.proxy.hits

    def admin_secrets(self) -> list[bytes]:
        return [secret.reveal() for secret in self.admin.values()]

    def session(self, issued: Issued):
        raise NotImplementedError("neither vendor keeps sessions")


def openai_bench(server: OpenAIServer, proxy: FaultProxy) -> HttpBench:
    """Return a bench with a project of its own."""
    project = server.add_project()
    return HttpBench(
        provider=OpenAI(),
        proxy=proxy,
        config={"project": project.id},
        options={"service_account": server.add_account(project)},
        admin={"admin_key": Secret.of(server.admin)},
        change=rb'"name"|DELETE /',
    )


class AnthropicByHand(Anthropic):
    """Anthropic together with the person who makes the key in the vendor's console.

    The person's part goes through the same faults as every call, so that the conformance
    suite covers what the provider does before and after it. Everything else is the provider's.
    """

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return MULTI, so that the suite also tries keys side by side."""
        return replace(super().capabilities(ctx), shape=Shape.MULTI)

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Make a key of the attempt's name as a person does, and hand its value over."""
        console = api(ctx, "no-key-but-a-browser")
        sent = {"name": attempt.tag, "workspace": str(ctx.config["workspace"])}
        made = console.change("POST", "/console/api_keys", sent)
        return self.adopt(ctx, attempt, {"api_key": Secret.of(str(made["value"]))})


def anthropic_bench(server: AnthropicServer, proxy: FaultProxy) -> HttpBench:
    """Return a bench with a workspace of its own."""
    return HttpBench(
        provider=AnthropicByHand(),
        proxy=proxy,
        config={"workspace": server.add_workspace()},
        options={},
        admin={"admin_key": Secret.of(server.admin)},
        change=rb'"name"|"status"',
    )
