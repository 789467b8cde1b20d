"""A right that was taken away opens nothing once the console says so, on every gateway, under load."""

from __future__ import annotations

import os
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models import Q

from keyvault.agents import services as agent_services
from keyvault.agents import tokens
from keyvault.agents.models import AgentMembership, AgentState
from keyvault.invalidation import services as invalidation
from keyvault.invalidation.models import GatewayInstance
from keyvault.inventory import grants
from keyvault.vault import services as vault
from keyvault.vault.models import Version
from tests import cleartext
from tests.keyvault.agents import builders as agents
from tests.keyvault.gateway import builders, crowding, harness

pytestmark = pytest.mark.django_db(transaction=True)

READERS = 2  # threads for each gateway
TRIALS = int(os.environ.get("TRIALS", "500"))  # of a campaign, in each state of the queue server
# Nobody is slowed down: a read that is refused for its rate says nothing about its right.
UNLIMITED = {f"KEYVAULT_GATEWAY_{what}_RATE": "1000000" for what in ("AGENT", "SOURCE", "REFUSAL")}


@dataclass
class Watcher:
    """Threads that read one key from every gateway without a pause; when each read was sent, by status."""

    urls: list[str]
    headers: dict[str, str]
    path: str
    stop: threading.Event = field(default_factory=threading.Event)
    sent: list[tuple[float, int]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> Watcher:
        """Begin, and return once every gateway has answered with the value."""
        for url in self.urls:
            builders.until(lambda url=url: self._read(url) == 200)
            for _ in range(READERS):
                self.threads.append(threading.Thread(target=self._go_on, args=(url,)))
        for thread in self.threads:
            thread.start()
        builders.until(lambda: len(self.sent) > 4 * len(self.threads), 20)
        return self

    def since(self, begin: float) -> Counter[int]:
        """Count the answers of reads that were sent after a moment, by status."""
        return Counter(status for sent, status in list(self.sent) if sent > begin)

    def end(self) -> None:
        """Stop reading."""
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _read(self, url: str) -> int:
        return cleartext.get(url + self.path, headers=self.headers).status_code

    def _go_on(self, url: str) -> None:
        with cleartext.Client(base_url=url, headers=self.headers) as client:
            while not self.stop.is_set():
                # When it was sent: an answer that left the gateway before the acknowledgement
                # may lie in a buffer until this thread has its turn.
                sent = time.monotonic()
                self.sent.append((sent, client.get(self.path).status_code))


def _end_token(cast, deal):
    tokens.end(
        tokens_of=Q(pk=deal.issued.token.pk), cause="tests", actor=agents.TESTS, now=cast.now
    )


def _end_grant(cast, deal):
    grants.end_grant(grant=deal.grant, actor=agents.TESTS, now=cast.now)


def _leave_group(cast, deal):
    AgentMembership.objects.filter(agent=deal.agent).update(left_at=cast.now)


def _suspend(cast, deal):
    agent_services.set_state(
        agent_id=deal.agent.pk,
        state=AgentState.SUSPENDED,
        cause="tests",
        actor=agents.TESTS,
        now=cast.now,
    )


def _revoke_version(cast, deal):
    version = Version.objects.get(key=deal.key, number=1)
    vault.mark_revoked(
        version_id=version.pk, cause="tests", now=cast.now, actor=agents.TESTS, request_id=None
    )


REFUSED = {401, 403, 404}  # What a right that is gone may say, and nothing else.
WAYS: dict[str, Callable[..., None]] = {
    "token": _end_token,
    "grant": _end_grant,
    "membership": _leave_group,
    "agent": _suspend,
    "version": _revoke_version,
}


def _deal(cast, way: str) -> builders.Deal:
    """Return an agent with a key that it may read until `way` happens."""
    name = f"key-{uuid4().hex[:12]}"
    key, agent = builders.delivered(cast, name), agents.agent(cast, f"bot-{uuid4().hex[:12]}")
    if way == "membership":
        AgentMembership.objects.create(agent=agent, group=cast.payments.group, joined_at=cast.now)
        grant = agents.granted(cast, cast.payments.group, key)
    else:
        grant = agents.granted(cast, agent, key)
    if way == "version":
        builders.add_version(cast, key, "s3cret-2")
    issued = agents.token(cast, agent)
    return builders.Deal(agent, key, grant, issued.text.reveal().decode(), issued)


def _trial(cast, gateways, way: str) -> tuple[float, Counter[int]]:
    """Take one right away under load; return seconds to acknowledgement, and what was answered later."""
    deal = _deal(cast, way)
    path = f"/v1/keys/{deal.key.name}" + ("?version=1" if way == "version" else "")
    watcher = Watcher([gateway.url for gateway in gateways], deal.headers, path).start()
    try:
        with transaction.atomic():
            WAYS[way](cast, deal)
            xact = invalidation.transaction_id()
        committed = time.monotonic()
        effect = invalidation.wait(xact, timeout_s=5)
        acknowledged = time.monotonic()
        assert effect.gateways == len(gateways)
        assert effect.is_everywhere, effect.sentence
        builders.until(lambda: watcher.since(acknowledged).total() >= 2 * len(watcher.threads))
    finally:
        watcher.end()
    assert watcher.sent[0][1] == 200, "nothing was read before"
    return acknowledged - committed, watcher.since(acknowledged)


@pytest.fixture(scope="module")
def two(django_db_setup, keys, tmp_path_factory):
    """Return two running gateways with the log of reads that an installation has."""
    directory = tmp_path_factory.mktemp("two")
    with harness.shared(
        directory, keys.path, count=2, application=harness.REAL, **UNLIMITED
    ) as started:
        yield started


@pytest.mark.parametrize("way", WAYS)
def test_r65_nothing_is_read_once_a_right_is_gone_everywhere(two, cast, way):
    for _ in range(2):
        _, later = _trial(cast, two, way)

        assert set(later) <= REFUSED, later


@pytest.mark.campaign
@pytest.mark.parametrize("queue", ["up", "down"])
def test_no_read_succeeds_after_acknowledgement_in_a_thousand_trials(two, cast, queue):
    took, later = [], Counter()
    with ExitStack() as stack:
        if queue == "down":
            stack.enter_context(crowding.hung_queue_server())
        crowds = [stack.enter_context(crowding.crowded(cast, gateway)) for gateway in two]
        for number in range(TRIALS):
            seconds, answers = _trial(cast, two, list(WAYS)[number % len(WAYS)])
            took.append(seconds * 1000)
            later += answers

    cuts = statistics.quantiles(took, n=100)
    sys.stdout.write(
        f"\n{len(took)} trials, queue server {queue}, beside {sum(c.rate for c in crowds):.0f} "
        f"other reads/s: commit to acknowledgement p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms; "
        f"answers after it, by status: {dict(later)}\n"
    )
    assert set(later) <= REFUSED, later


def test_a_gateway_that_has_ended_is_waited_for_no_longer(django_db_setup, keys, tmp_path, cast):
    with harness.running(tmp_path, keys.path) as started:
        deal = _deal(cast, "token")
        worker = started[0].worker()
        Watcher([started[0].url], deal.headers, f"/v1/keys/{deal.key.name}").start().end()

    ended = GatewayInstance.objects.get(name=f"{socket.gethostname()}:{worker}")
    assert ended.ended_at is not None
