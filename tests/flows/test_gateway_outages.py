"""PostgreSQL dies under a gateway that is being read: no wrong answer, and it recovers by itself."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests import cleartext
from tests.flows.test_agent_reads import NAME, by_hand
from tests.servers import Stack

pytestmark = pytest.mark.slow

LONG_S = 60
VALUE = "vk-outage-value"


@dataclass
class Reading:
    """Threads that read one key without a pause, and every answer by its status."""

    url: str
    token: str
    stop: threading.Event = field(default_factory=threading.Event)
    answers: list[tuple[int, str, str | None]] = field(default_factory=list)

    def go_on(self) -> None:
        """Read until told to stop."""
        headers = {"Authorization": f"Bearer {self.token}"}
        with cleartext.Client(headers=headers, timeout=LONG_S) as client:
            while not self.stop.is_set():
                found = client.get(self.url)
                value = found.json().get("value", "")
                self.answers.append((found.status_code, value, found.headers.get("retry-after")))
                if found.status_code != 200:
                    time.sleep(0.01)

    def until(self, status: int) -> None:
        """Wait until the newest answers are all of one status."""
        end, begin = time.monotonic() + LONG_S, len(self.answers)
        while not (len(self.answers) > begin + 5 and self.answers[-1][0] == status):
            assert time.monotonic() < end, f"it never said {status}: {self.answers[-3:]}"
            time.sleep(0.02)


@contextmanager
def reading(stack: Stack, name: str) -> Iterator[Reading]:
    """Read a key of the demo's agent from the gateway until the block ends."""
    agents = json.loads((stack.data / "demo.json").read_text(encoding="utf-8"))["agents"]
    secret = next(a["client_secret"] for a in agents if a["client_id"] == NAME)
    form = {"grant_type": "client_credentials", "client_id": NAME, "client_secret": secret}
    token = cleartext.post(f"{stack.url}/api/v1/oauth/token", data=form).raise_for_status().json()
    found = Reading(f"{stack.gateway}/v1/keys/{name}", token["access_token"])
    threads = [threading.Thread(target=found.go_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        found.stop.set()
        for thread in threads:
            thread.join()


def test_r60_a_killed_postgresql_silences_the_gateway_until_it_is_back(stack):
    by_hand(stack, "give", NAME, "outage-key", value=VALUE)
    gateway = stack.pid("gateway")
    with reading(stack, "outage-key") as found:
        for _ in range(2):
            found.until(200)
            stack.kill("postgresql")
            found.until(503)
        found.until(200)

    # Before the first value the gateway had not heard of the key.
    first = next(place for place, answer in enumerate(found.answers) if answer[0] == 200)
    answers = found.answers[first:]
    assert {status for status, _, _ in answers} == {200, 503}
    assert {value for status, value, _ in answers if status == 200} == {VALUE}
    assert {value for status, value, _ in answers if status == 503} == {""}
    assert all(again for status, _, again in answers if status == 503)
    assert stack.pid("gateway") == gateway
    assert VALUE not in stack.log("gateway")
