"""R43 on a running console: slow and huge senders, counted from outside."""

from __future__ import annotations

import select
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from keyvault import arrivals
from tests import cleartext
from tests.servers import Stack

HEAD = (
    b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
)
PATIENCE_S = 60
TOKEN = b"/api/v1/oauth/token"
SENDERS = 40


def _sender(stack: Stack, length: int, path: bytes = TOKEN) -> socket.socket:
    """Return a connection that has sent a head and the first byte of a body."""
    made = socket.create_connection(("127.0.0.1", stack.port), timeout=PATIENCE_S)
    made.sendall(HEAD % (path, length) + b"x")
    return made


def _status(connection: socket.socket) -> int:
    return int(connection.recv(4096).split()[1])


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


def _most_kb(stack: Stack) -> int:
    """Return the most memory that the console has ever held, in kB."""
    pids = [stack.pid("console"), *_children(stack.pid("console"))]
    lines = [
        line
        for pid in pids
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    return sum(int(line.split()[1]) for line in lines)


def _answered(senders: list[socket.socket], wanted: int) -> list[int]:
    """Return the statuses of those who were answered, once there are enough of them."""
    left, statuses, until = list(senders), [], time.monotonic() + PATIENCE_S
    while len(statuses) < wanted and time.monotonic() < until:
        ready, _, _ = select.select(left, [], [], 1)
        for one in ready:
            left.remove(one)
            statuses.append(_status(one))
    return statuses


def _wrong_proof(stack: Stack, source: str) -> int:
    """Ask for a token with a wrong secret, from an address of this host; return the status."""
    form = {"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "x"}
    transport = httpx.HTTPTransport(local_address=source)
    with cleartext.Client(transport=transport, timeout=PATIENCE_S) as client:
        where = f"http://127.0.0.1:{stack.port}{TOKEN.decode()}"
        return client.post(where, data=form, headers={"Host": "localhost"}).status_code


def test_r43_forty_slow_senders_stop_nobody(stack: Stack):
    refused = SENDERS - arrivals.LATE_OF_SOURCE
    with ExitStack() as open_ones:
        slow = [open_ones.enter_context(_sender(stack, 1000)) for _ in range(SENDERS)]

        statuses = _answered(slow, refused)
        assert statuses[:refused] == [503] * refused
        assert cleartext.get(f"{stack.url}/auth/login/", timeout=PATIENCE_S).status_code == 200
        assert _wrong_proof(stack, "127.0.0.2") == 401

    until = time.monotonic() + PATIENCE_S
    while (status := _wrong_proof(stack, "127.0.0.1")) == 503 and time.monotonic() < until:
        time.sleep(0.2)
    assert status == 401


def test_r43_hundreds_of_megabytes_are_not_held(stack: Stack):
    cleartext.get(f"{stack.url}/healthz", timeout=PATIENCE_S)
    before = _most_kb(stack)
    part = b"x" * 1_000_000

    for path in (TOKEN, b"/auth/login/", b"/api/v1/requests"):
        with _sender(stack, 100_000_001, path) as sender:
            try:
                for _ in range(100):
                    sender.sendall(part)
            except OSError:
                pass  # It has been refused by its length, and the rest is not wanted.
            try:
                assert _status(sender) == 413
            except ConnectionResetError:
                continue

    assert _most_kb(stack) - before < 100_000


def test_r43_ten_thousand_headers_are_refused(stack: Stack):
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    with socket.create_connection(("127.0.0.1", stack.port), timeout=PATIENCE_S) as sender:
        sender.sendall(head + b"".join(b"h%d: x\r\n" % n for n in range(10_000)) + b"\r\n")

        assert 400 <= _status(sender) < 500
