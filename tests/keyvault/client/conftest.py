"""A house to talk to, and both clients behind one face so that one test tries both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from keyvault.client import AsyncClient, Client
from keyvault.client.settings import from_environment
from tests.keyvault.client import house as houses


class Clock:
    """A clock that a test moves. It starts at the real time, for answers carry real times."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


class Blocking:
    """Drive a Client."""

    def __init__(self, settings):
        self.client = Client(settings=settings)

    def get(self, name):
        return self.client.get(name)

    def read(self, name, version):
        return self.client.read(name, version)

    def watch(self, *names):
        return self.client.watch(*names)

    def api(self, *arguments, **more):
        return self.client.do(self.client.core.api(*arguments, **more))

    def heartbeat(self, **more):
        self.client.heartbeat(**more)

    def close(self):
        self.client.close()


class Awaiting:
    """Drive an AsyncClient on a loop of its own."""

    def __init__(self, settings):
        self.loop = asyncio.new_event_loop()
        self.told = []
        self.client = self._run(_make(settings))

    def get(self, name):
        return self._run(self.client.get(name))

    def read(self, name, version):
        return self._run(self.client.read(name, version))

    def watch(self, *names):
        told = self.client.watch(*names)
        self.told.append(told)
        while True:
            try:
                yield self._run(anext(told))
            except StopAsyncIteration:
                return

    def api(self, *arguments, **more):
        return self._run(self.client.do(self.client.core.api(*arguments, **more)))

    def heartbeat(self, **more):
        self._run(self.client.heartbeat(**more))

    def close(self):
        for told in self.told:
            self._run(told.aclose())
        self._run(self.client.close())
        self.loop.close()

    def _run(self, what):
        return self.loop.run_until_complete(what)


async def _make(settings):
    return AsyncClient(settings=settings)


@pytest.fixture
def house() -> Iterator[houses.House]:
    """Return a running house with one key."""
    with houses.running() as found:
        found.put("openai-prod", "sk-first")
        yield found


@pytest.fixture(params=[Blocking, Awaiting], ids=["blocking", "awaiting"])
def connect(request, house):
    """Return a function that connects a client of either kind to the house as an agent."""
    opened = []

    def make(*, environ=None, clock=None, **more):
        env = {"KEYVAULT_URL": house.url}
        if environ is None:
            more = {"client_id": houses.CLIENT_ID, "client_secret": houses.SECRET, **more}
        face = request.param(from_environment({**env, **(environ or {})}, **more))
        if clock is not None:
            face.client.core.clock = clock
        opened.append(face)
        return face

    yield make
    for face in opened:
        face.close()
