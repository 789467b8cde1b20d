"""Watching keys over real HTTP: what moved is told, and nothing once a right is gone."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from django.db import connection, transaction
from django.db.models import Q

from keyvault.agents import tokens
from keyvault.agents.models import AccessToken, Agent, AgentState
from keyvault.client import AsyncClient, Client, NotGranted
from keyvault.gateway import watches
from keyvault.invalidation import services as invalidation
from keyvault.invalidation.models import GatewayInstance
from keyvault.inventory import grants
from keyvault.inventory.models import Key, KeyState
from keyvault.launcher.installation import ROOT
from keyvault.usage import loaded
from tests import cleartext
from tests.keyvault.agents import builders as agents
from tests.keyvault.client import house as houses
from tests.keyvault.gateway import builders, harness
from tests.keyvault.gateway.test_starts import cut_off

pytestmark = pytest.mark.django_db(transaction=True)

LONG_S = 30


class Listener:
    """One open watch, read by a thread of its own: blocks of text, None at its end."""

    def __init__(self, gateway, deal, names: str | None = None) -> None:
        self.blocks: queue.Queue[str | None] = queue.Queue()
        self.all: list[str] = []
        self._http = cleartext.Client(timeout=LONG_S)
        url = f"{gateway.url}/v1/watch?names={names or deal.key.name}"
        request = self._http.build_request("GET", url, headers=deal.headers)
        self.response = self._http.send(request, stream=True)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        if self.response.status_code == 200:
            self._thread.start()
            assert self.next() == ": watching"

    def next(self) -> str | None:
        """Return the next block that says something, None at the end of the stream."""
        while True:
            block = self.blocks.get(timeout=LONG_S)
            if block != ": here":
                return block

    def close(self) -> None:
        """Hang up."""
        self.response.close()
        self._http.close()

    def _listen(self) -> None:
        text = ""
        try:
            for chunk in self.response.iter_text():
                *whole, text = (text + chunk).split("\n\n")
                for block in whole:
                    self.all.append(block)
                    self.blocks.put(block)
        except httpx.HTTPError as error:
            self.blocks.put(repr(error))
        else:
            self.blocks.put(None)


@contextmanager
def watching(gateway, deal, names: str | None = None) -> Iterator[Listener]:
    """Watch until the block ends; the gateway knows the deal by then."""
    builders.until(lambda: _read(gateway, deal).status_code == 200)
    listener = Listener(gateway, deal, names)
    try:
        yield listener
    finally:
        listener.close()


def _read(gateway, deal) -> httpx.Response:
    return cleartext.get(f"{gateway.url}/v1/keys/{deal.key.name}", headers=deal.headers)


def _deal(cast, value: str = "s3cret-1") -> builders.Deal:
    """Return a deal that no earlier test has left in the shared gateway."""
    key = builders.delivered(cast, f"key-{uuid4().hex[:12]}", value)
    agent = agents.agent(cast, f"bot-{uuid4().hex[:12]}")
    grant, issued = agents.granted(cast, agent, key), agents.token(cast, agent)
    return builders.Deal(agent, key, grant, issued.text.reveal().decode(), issued)


def _moved(block: str) -> dict[str, object]:
    name, data = block.split("\n")
    assert name == "event: moved"
    return json.loads(data.removeprefix("data: "))


def test_a_moved_version_is_told_without_its_value_and_without_a_record(gateway, cast):
    deal = _deal(cast)
    with watching(gateway, deal) as listener:
        reads = len(gateway.logged())

        builders.add_version(cast, deal.key, "s3cret-2")

        assert _moved(listener.next()) == {"key": deal.key.name, "version": 2}
        builders.add_version(cast, deal.key, "s3cret-3")
        assert _moved(listener.next()) == {"key": deal.key.name, "version": 3}
        assert listener.response.headers["content-type"] == "text/event-stream"
        assert listener.response.headers["cache-control"] == "no-store"
    assert len(gateway.logged()) == reads
    assert "s3cret" not in "".join(listener.all)


def test_of_several_keys_only_those_that_moved_are_told(gateway, cast):
    deal = _deal(cast)
    other = builders.delivered(cast, f"key-{uuid4().hex[:12]}")
    agents.granted(cast, deal.agent, other)
    headers = deal.headers
    builders.until(
        lambda: cleartext.get(f"{gateway.url}/v1/keys/{other.name}", headers=headers).is_success
    )
    with watching(gateway, deal, f"{deal.key.name},{other.name}") as listener:
        builders.add_version(cast, other, "s3cret-2")

        assert _moved(listener.next())["key"] == other.name


def _end_token(cast, deal):
    tokens.end(
        tokens_of=Q(pk=deal.issued.token.pk), cause="tests", actor=agents.TESTS, now=cast.now
    )


def _end_grant(cast, deal):
    grants.end_grant(grant=deal.grant, actor=agents.TESTS, now=cast.now)


def _suspend_agent(cast, deal):
    Agent.objects.filter(pk=deal.agent.pk).update(state=AgentState.SUSPENDED)


def _suspend_key(cast, deal):
    Key.objects.filter(pk=deal.key.pk).update(state=KeyState.SUSPENDED)


WAYS = {
    "token": _end_token,
    "grant": _end_grant,
    "agent": _suspend_agent,
    "key": _suspend_key,
}


@pytest.mark.parametrize("way", WAYS)
def test_r65_a_watch_ends_with_its_right_and_never_tells_what_moved_with_it(gateway, cast, way):
    deal = _deal(cast)
    with watching(gateway, deal) as listener:
        with transaction.atomic():
            WAYS[way](cast, deal)
            builders.add_version(cast, deal.key, "s3cret-2")

        assert listener.next() is None
    assert not any("moved" in block for block in listener.all)


def test_a_watch_ends_at_the_moment_of_its_token_and_of_its_grant(gateway, cast):
    by_token, by_grant = _deal(cast), _deal(cast)
    with watching(gateway, by_token) as first, watching(gateway, by_grant) as second:
        soon = cast.now + timedelta(seconds=4)
        AccessToken.objects.filter(pk=by_token.issued.token.pk).update(expires_at=soon)
        type(by_grant.grant).objects.filter(pk=by_grant.grant.pk).update(
            starts_at=cast.now - timedelta(days=2), ends_at=soon
        )

        assert first.next() is None
        assert second.next() is None


def test_what_may_not_be_read_may_not_be_watched_and_is_refused_alike(gateway, cast):
    deal = _deal(cast)
    hidden = builders.delivered(cast, f"key-{uuid4().hex[:12]}")
    with watching(gateway, deal):
        pass
    for names in (hidden.name, "never-heard-of", f"{deal.key.name},{hidden.name}"):
        watch = cleartext.get(f"{gateway.url}/v1/watch?names={names}", headers=deal.headers)
        read = cleartext.get(f"{gateway.url}/v1/keys?names={names}", headers=deal.headers)
        assert (watch.status_code, _told(watch)) == (404, _told(read))
    nobody = {"Authorization": "Bearer kvt_nobody"}
    refused = cleartext.get(f"{gateway.url}/v1/watch?names={deal.key.name}", headers=nobody)
    assert refused.status_code == 401
    for wrong in ("", "?names=", "?names=a-key,a-key", "?name=a-key", "?names=..%2f"):
        found = cleartext.get(f"{gateway.url}/v1/watch{wrong}", headers=deal.headers)
        assert found.status_code == 400, wrong
    assert cleartext.post(f"{gateway.url}/v1/watch").status_code == 405


def _told(response: httpx.Response) -> dict[str, object]:
    problem = response.json()
    del problem["request_id"]
    return problem


def test_one_agent_has_only_so_many_watches_and_a_closed_one_makes_room(gateway, cast):
    deal = _deal(cast)
    request = (
        f"GET /v1/watch?names={deal.key.name} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: {deal.headers['Authorization']}\r\n\r\n"
    ).encode()
    builders.until(lambda: _read(gateway, deal).status_code == 200)
    with ExitStack() as stack:
        links = []
        for _ in range(watches.WATCHES_OF_AGENT_MOST):
            link = socket.create_connection(("127.0.0.1", gateway.port), timeout=LONG_S)
            links.append(stack.enter_context(closing(link)))
            link.sendall(request)
            assert link.recv(100).startswith(b"HTTP/1.1 200")
        refused = Listener(gateway, deal)
        assert refused.response.status_code == 429
        assert int(refused.response.headers["retry-after"]) >= 1
        refused.close()

        links[0].close()

        builders.until(lambda: _opens(gateway, deal))


def _opens(gateway, deal) -> bool:
    listener = Listener(gateway, deal)
    listener.close()
    return listener.response.status_code == 200


def test_a_gateway_that_is_told_to_stop_ends_its_watches_and_says_goodbye(
    django_db_setup, keys, tmp_path, cast
):
    with harness.running(tmp_path, keys.path) as started:
        deal, worker = _deal(cast), started[0].worker()
        with watching(started[0], deal) as listener:
            started[0].process.send_signal(signal.SIGTERM)

            assert listener.next() is None
            # The server would be killed after its own, longer patience, without a goodbye.
            started[0].process.wait(LONG_S)
    row = GatewayInstance.objects.get(name=f"{socket.gethostname()}:{worker}")
    assert row.ended_at is not None
    assert "Traceback" not in started[0].output()


@pytest.mark.parametrize("is_cut", [False, True])
def test_what_moved_while_a_gateway_was_away_is_told_once_it_is_back(
    django_db_setup, keys, tmp_path, cast, is_cut
):
    deal, gone = _deal(cast), _deal(cast)
    with (
        harness.running(tmp_path, keys.path) as started,
        watching(started[0], deal) as kept,
        watching(started[0], gone) as ended,
    ):
        worker = started[0].worker()
        os.kill(worker, signal.SIGSTOP)
        builders.add_version(cast, deal.key, "s3cret-2")
        with transaction.atomic():
            _end_grant(cast, gone)
            builders.add_version(cast, gone.key, "s3cret-2")
        if is_cut:
            cut_off()
        time.sleep(invalidation.LEASE.total_seconds() + 0.3)
        os.kill(worker, signal.SIGCONT)

        assert _moved(kept.next()) == {"key": deal.key.name, "version": 2}
        assert ended.next() is None
        assert not any("moved" in block for block in ended.all)


@pytest.fixture
def house(gateway, cast) -> Iterator[houses.House]:
    """Return a console that leads to the real gateway."""
    with houses.running() as found:
        found.gateway_url = gateway.url
        yield found


def test_the_client_follows_the_stream_of_the_gateway(gateway, house, cast):
    deal = _deal(cast)
    builders.until(lambda: _read(gateway, deal).status_code == 200)
    # So slow that whatever is told in time came by the stream.
    with Client(house.url, token=deal.token, refresh_s=3600) as client:
        told = client.watch(deal.key.name)
        assert next(told).reveal() == "s3cret-1"
        builders.add_version(cast, deal.key, "s3cret-2")
        assert next(told).reveal() == "s3cret-2"
        with transaction.atomic():
            _end_grant(cast, deal)
        with pytest.raises(NotGranted):
            next(told)


def test_the_asynchronous_client_follows_it_as_well(gateway, house, cast):
    deal = _deal(cast)
    builders.until(lambda: _read(gateway, deal).status_code == 200)

    async def follow() -> None:
        async with AsyncClient(house.url, token=deal.token, refresh_s=3600) as client:
            told = client.watch(deal.key.name)
            assert (await anext(told)).version == 1
            await asyncio.to_thread(_closing, builders.add_version, cast, deal.key, "s3cret-2")
            assert (await anext(told)).version == 2
            await told.aclose()
            await client.heartbeat()

    asyncio.run(follow())
    builders.until(lambda: [row.number for row in loaded.by_key(deal.key.pk)] == [2], LONG_S)


def _closing(work, *arguments) -> None:
    try:
        work(*arguments)
    finally:
        connection.close()


def test_a_command_is_restarted_and_a_file_rewritten_by_the_stream(gateway, house, cast, tmp_path):
    deal = _deal(cast)
    builders.until(lambda: _read(gateway, deal).status_code == 200)
    source, out = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text(f"${{kv:{deal.key.name}}}")
    show = "import os, time; print(os.environ['THE_KEY'][::-1], flush=True); time.sleep(60)"
    run = ["run", "--key", f"{deal.key.name}=THE_KEY", "--on-change", "restart", "--"]
    template = ["template", str(source), "--out", str(out), "--follow"]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "KEYVAULT_URL": house.url,
        "KEYVAULT_TOKEN": deal.token,
        "KEYVAULT_REFRESH_S": "3600",
    }
    command = [sys.executable, "-P", "-m", "keyvault.cli"]
    with (
        subprocess.Popen(
            [*command, *run, sys.executable, "-c", show], env=env, stdout=subprocess.PIPE
        ) as runner,
        subprocess.Popen([*command, *template], env=env, stderr=subprocess.DEVNULL) as renderer,
    ):
        try:
            assert runner.stdout.readline() == b"1-terc3s\n"
            builders.until(lambda: out.exists() and out.read_text() == "s3cret-1", LONG_S)
            builders.add_version(cast, deal.key, "s3cret-2")
            assert runner.stdout.readline() == b"2-terc3s\n"
            builders.until(lambda: out.read_text() == "s3cret-2", LONG_S)
        finally:
            runner.terminate()
            renderer.terminate()
