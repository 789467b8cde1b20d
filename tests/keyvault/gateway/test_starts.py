"""Gateways start, stand still and reconnect while rights are taken away: nobody reads too late."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from uuid import uuid4

import httpx
import pytest
from django.db import connection, connections, transaction
from django.db.models import Q

from keyvault.agents import tokens
from keyvault.invalidation import services as invalidation
from tests import cleartext
from tests.keyvault.agents import builders as agents
from tests.keyvault.gateway import builders, harness
from tests.keyvault.gateway.harness import Gateway

pytestmark = pytest.mark.django_db(transaction=True)

TOKENS = 400
TRIALS = int(os.environ.get("TRIALS", "100"))  # of a campaign
_CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'keyvault-gateway-rights' AND datname = current_database()
"""


@dataclass
class Revoking:
    """One thread that ends token after token, and one that reads under those that are ended."""

    gateway: Gateway
    cast: object
    path: str
    issued: list
    stop: threading.Event = field(default_factory=threading.Event)
    ended: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    asked: int = 0
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Begin."""
        self.threads = [threading.Thread(target=run) for run in (self._end, self._read)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both."""
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _end(self) -> None:
        try:
            for issued in self.issued:
                if self.stop.is_set():
                    return
                with transaction.atomic():
                    tokens.end(
                        tokens_of=Q(pk=issued.token.pk),
                        cause="tests",
                        actor=agents.TESTS,
                        now=self.cast.now,
                    )
                    xact = invalidation.transaction_id()
                if invalidation.wait(xact, timeout_s=10).is_everywhere:
                    self.ended.append(issued.text.reveal().decode())
        finally:
            connections.close_all()

    def _read(self) -> None:
        """Ask under the token whose end was acknowledged last: what was sent after that is late."""
        with cleartext.Client(base_url=self.gateway.url, timeout=5) as client:
            while not self.stop.is_set():
                if not self.ended:
                    time.sleep(0.001)
                    continue
                token = self.ended[-1]
                try:
                    found = client.get(self.path, headers={"Authorization": f"Bearer {token}"})
                except httpx.HTTPError:
                    continue
                self.asked += found.status_code == 401
                if found.status_code == 200:
                    self.late.append(token)


def _start_anew(gateway: Gateway) -> None:
    gateway.kill()
    gateway.start()


def _stand_still(gateway: Gateway) -> None:
    """Stop the process for longer than its row counts as live, as a suspended machine does."""
    worker = gateway.worker()
    os.kill(worker, signal.SIGSTOP)
    time.sleep(invalidation.LEASE.total_seconds() + 0.3)
    os.kill(worker, signal.SIGCONT)
    gateway.await_status(200)


def cut_off() -> None:
    """Break the connections by which gateways follow this database."""
    with connection.cursor() as cursor:
        cursor.execute(_CUT)
        assert cursor.fetchone()[0] >= 1


def _reconnect(gateway: Gateway) -> None:
    cut_off()
    gateway.await_status(200)


GAPS: dict[str, Callable[[Gateway], None]] = {
    "start": _start_anew,
    "standstill": _stand_still,
    "reconnection": _reconnect,
}


def _trial(cast, gateway: Gateway, gap: Callable[[Gateway], None]) -> Revoking:
    """Let a gap happen in the midst of revocations; return what was read."""
    name = f"key-{uuid4().hex[:12]}"
    key, agent = builders.delivered(cast, name), agents.agent(cast, f"bot-{uuid4().hex[:12]}")
    agents.granted(cast, agent, key)
    issued = [agents.token(cast, agent) for _ in range(TOKENS)]
    with Revoking(gateway, cast, f"/v1/keys/{name}", issued) as revoking:
        builders.until(lambda: revoking.ended, 20)
        gap(gateway)
        asked = revoking.asked
        builders.until(lambda: revoking.asked > asked + 5, 20)
    return revoking


@pytest.fixture(scope="module")
def one(django_db_setup, keys, tmp_path_factory):
    """Return a running gateway that this module may harm."""
    with harness.shared(tmp_path_factory.mktemp("one"), keys.path) as started:
        yield started[0]


@pytest.mark.parametrize("gap", GAPS)
def test_r65_nothing_is_read_too_late_around_a_gap(one, cast, gap):
    revoking = _trial(cast, one, GAPS[gap])

    assert revoking.late == []


@pytest.mark.campaign
def test_nothing_is_read_too_late_around_a_hundred_gaps(one, cast):
    late, ended, asked = 0, 0, 0
    for number in range(TRIALS):
        revoking = _trial(cast, one, list(GAPS.values())[number % len(GAPS)])
        late += len(revoking.late)
        ended += len(revoking.ended)
        asked += revoking.asked

    sys.stdout.write(
        f"\n{TRIALS} gaps, {ended} tokens ended and acknowledged: {asked} reads under them "
        f"refused, {late} answered\n"
    )
    assert late == 0
