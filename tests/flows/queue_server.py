"""A look into the queue server of a running stack: what is sent, what is kept, what to send."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import celery
import redis

from tests.servers import Stack

_BODY = re.compile(rb'\\"body\\": \\"([A-Za-z0-9+/=]+)\\"')
TASK = "approvals.run_job"


def client(stack: Stack) -> redis.Redis:
    """Return a connection to the queue server, with the stack's own password."""
    parts = urlsplit(stack.environment()["KEYVAULT_BROKER_URL"])
    password = unquote(parts.password or "")
    return redis.Redis(unix_socket_path=parts.path, password=password, socket_timeout=None)


@dataclass
class Recording:
    """Everything that MONITOR has shown so far."""

    lines: list[bytes] = field(default_factory=list)

    @property
    def text(self) -> bytes:
        """Return it as one text."""
        return b"\n".join(self.lines)

    def arguments(self) -> list[tuple[list[Any], dict[str, Any]]]:
        """Return the arguments of every Celery message that passed."""
        bodies = [json.loads(base64.b64decode(found)) for found in _BODY.findall(self.text)]
        return [(body[0], body[1]) for body in bodies if isinstance(body, list)]


@contextmanager
def monitored(stack: Stack) -> Iterator[Recording]:
    """Record every command that the queue server gets while the block runs."""
    recording, server = Recording(), client(stack)
    link = server.connection_pool.get_connection()
    link.send_command("MONITOR")
    link.read_response()

    def record() -> None:
        try:
            while True:
                line = link.read_response(disable_decoding=True)
                recording.lines.append(line if isinstance(line, bytes) else str(line).encode())
        except (OSError, redis.RedisError, ValueError, AttributeError):
            return

    thread = threading.Thread(target=record, daemon=True)
    thread.start()
    yield recording
    link._sock.shutdown(2)
    thread.join(timeout=5)
    link.disconnect()
    server.close()


@contextmanager
def sender(stack: Stack) -> Iterator[celery.Celery]:
    """Return an application that publishes to this stack's workers and is otherwise a stranger."""
    given = stack.environment()
    app = celery.Celery("stranger", broker=given["KEYVAULT_BROKER_URL"], set_as_current=False)
    prefix = f"keyvault:{urlsplit(given['KEYVAULT_PUBLIC_URL']).netloc}:"
    app.conf.update(broker_transport_options={"global_keyprefix": prefix}, result_backend=None)
    yield app
    app.close()


def ring(stack: Stack, job_id: int, *, times: int = 1) -> None:
    """Send messages for a job, as a relay would."""
    with sender(stack) as app:
        for _ in range(times):
            app.send_task(TASK, args=[job_id], ignore_result=True)
