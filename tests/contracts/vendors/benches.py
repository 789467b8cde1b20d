"""Benches of the vendors of models, and the person who makes what one of them cannot."""

from __future__ import annotations

from dataclasses import replace

from keyvault.crypto.secret import Secret
from keyvault.providers.anthropic import Anthropic
from keyvault.providers.anthropic.organization import api
from keyvault.providers.base import Attempt, Capabilities, Context, Issued, Shape
from keyvault.providers.openai import OpenAI
from keyvault.providers.testing import FaultProxy
from tests.contracts.vendors.anthropic_server import AnthropicServer
from tests.contracts.vendors.http_bench import HttpBench
from tests.contracts.vendors.openai_server import OpenAIServer


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
