"""A crowd that reads from a gateway as fast as it answers, and a queue server that hangs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import redis
from django.conf import settings

from keyvault import readiness
from tests import cleartext
from tests.cast import Cast
from tests.keyvault.agents import builders as agents
from tests.keyvault.gateway import builders
from tests.keyvault.gateway.harness import Gateway
from tests.load import wrk

CONNECTIONS = 32
_LONGEST_S = 3600


class Crowd:
    """Reads of one key over many connections until it is ended; counts the answers that came whole."""

    def __init__(self, cast: Cast, gateway: Gateway) -> None:
        """Begin, once the gateway has answered with the value; that read is not counted."""
        wrk.require()
        name = f"crowd-{uuid4().hex[:12]}"
        key, agent = builders.delivered(cast, name), agents.agent(cast, f"bot-{uuid4().hex[:12]}")
        agents.granted(cast, agent, key)
        issued = agents.token(cast, agent, ttl_s=_LONGEST_S)
        self.token, self.answered, self.rate = issued.token.public_id, 0, 0.0
        url, bearer = f"{gateway.url}/v1/keys/{name}", f"Bearer {issued.text.reveal().decode()}"
        headers = {"Authorization": bearer}
        builders.until(lambda: cleartext.get(url, headers=headers).status_code == 200)
        argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{_LONGEST_S}s", "--timeout", "30s"]
        argv += ["-H", f"Authorization: {bearer}", url]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def end(self) -> str:
        """End it and return what it has to say; fail where an answer was a refusal."""
        self._process.send_signal(signal.SIGINT)
        told, _ = self._process.communicate(timeout=60)
        assert "Non-2xx" not in told, told
        self.answered = int(re.search(r"(\d+) requests in", told)[1])
        self.rate = float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])
        return told


@contextmanager
def crowded(cast: Cast, gateway: Gateway) -> Iterator[Crowd]:
    """Let a crowd read while the block runs; each of its reads must be answered."""
    crowd = Crowd(cast, gateway)
    try:
        yield crowd
    finally:
        told = crowd.end()
    assert "Socket errors" not in told, told


@contextmanager
def hung_queue_server() -> Iterator[None]:
    """Stop the queue server of these tests while the block runs: it accepts and never answers."""
    url = readiness._redis_url(settings.BROKER_URL)
    with redis.Redis.from_url(url) as server:
        pid = server.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert not readiness.ping_queue_server(settings.BROKER_URL)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
    assert readiness.ping_queue_server(settings.BROKER_URL)
