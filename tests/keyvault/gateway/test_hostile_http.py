"""Whatever is sent to a gateway, it stays: no crash, no failure of its own, no secret in its log."""

from __future__ import annotations

import os
import random
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests import cleartext
from tests.keyvault.gateway import builders, harness

pytestmark = pytest.mark.django_db(transaction=True)

SEED = 5
CONNECTIONS = int(os.environ.get("CONNECTIONS", "180"))  # of five requests each
LONG_S = 30
# What may come back: an answer of ours, or the parser's own, or nothing and a closed connection.
ALLOWED = {200, 304, 400, 401, 403, 404, 405, 408, 413, 414, 429, 431, 501, 503, 505}


@pytest.fixture(scope="module")
def target(django_db_setup, keys, tmp_path_factory):
    """Return a gateway that answers every source as often as it asks."""
    with harness.shared(
        tmp_path_factory.mktemp("hostile"), keys.path, KEYVAULT_GATEWAY_REFUSAL_RATE="1000000"
    ) as started:
        yield started[0]


@pytest.fixture
def deal(target, cast):
    """Return a deal that the gateway knows."""
    found = builders.deal(cast)
    url = f"{target.url}/v1/keys/ledger-reader"
    builders.until(lambda: cleartext.get(url, headers=found.headers).status_code == 200)
    return found


@contextmanager
def linked(gateway) -> Iterator[socket.socket]:
    """Connect."""
    with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=LONG_S)) as link:
        yield link


def _said(link: socket.socket) -> bytes:
    """Return all that comes until the other side closes or says nothing for a moment."""
    heard = bytearray()
    link.settimeout(0.3)
    try:
        while chunk := link.recv(65_536):
            heard += chunk
    except OSError:
        pass
    return bytes(heard)


def _statuses(heard: bytes) -> list[int]:
    parts = heard.split(b"HTTP/1.1 ")[1:]
    return [int(part[:3]) for part in parts]


def _serves(gateway, deal) -> bool:
    answer = cleartext.get(f"{gateway.url}/v1/keys/ledger-reader", headers=deal.headers)
    return answer.status_code == 200 and answer.json()["value"] == "s3cret-1"


PIECES = [
    b"/v1/keys/ledger-reader", b"/v1/keys", b"/v1/keys/", b"/v1/watch", b"/v1/secret/data/",
    b"/v1/sys/health", b"/v1/auth/token/lookup-self", b"/healthz", b"?names=", b"?version=",
    b"ledger-reader", b",", b"&", b"=", b"?", b"#", b"%", b"%2", b"%00", b"%zz", b"%2e%2e", b"..",
    b"//", b"\\", b"%ff%fe", b"%F0%9F%98%80", b"\xc3\xa9", b"\x00", b"\x7f", b" ", b"\t",
    b"999999999999", b"-1", b"current", b"a" * 300, b";", b"'", b"{}",
]  # fmt: skip
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"LIST", b"OPTIONS", b"TRACE", b"CONNECT", b"get", b"G\x00T"]  # fmt: skip
HEADERS = [
    b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 1\r\nContent-Length: 2",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, identity", b"Expect: 100-continue",
    b"If-None-Match: \"", b"If-None-Match: " + b"\"1.0\"," * 200, b"Authorization: Bearer ",
    b"Authorization: Bearer \xff\xfe", b"Authorization: bearer kvt_x y", b"X-Vault-Token: \x80",
    b"X-Forwarded-For: not-an-address", b"Upgrade: websocket\r\nConnection: upgrade",
    b"Connection: close", b"Host: ", b"Range: bytes=0-", b": nothing", b"No-Colon", b"A\x00B: c",
    b"Long: " + b"x" * 9000,
]  # fmt: skip


def _request(dice: random.Random, token: str) -> bytes:
    """Return one request that is wrong in some places; some carry a token that is good."""
    path = dice.choice(PIECES[:10]) + b"".join(dice.choices(PIECES, k=dice.choice([0, 0, 1, 1, 4])))
    method = dice.choice(METHODS) if dice.random() < 0.4 else b"GET"
    protocol = dice.choice([b"HTTP/9.9", b"HTTP/1.0", b""]) if dice.random() < 0.1 else b"HTTP/1.1"
    lines = [b"%b %b %b" % (method, path, protocol)]
    if dice.random() < 0.95:
        lines.append(b"Host: gateway")
    if dice.random() < 0.6:
        lines.append(b"Authorization: Bearer " + token.encode())
    lines += dice.choices(HEADERS, k=dice.choice([0, 0, 0, 1, 3]))
    end = dice.choice([b"\n", b"\r"]) if dice.random() < 0.1 else b"\r\n"
    return end.join(lines) + end * 2 + dice.choice([b"", b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n"])


def test_no_malformed_request_makes_it_fail(target, deal):
    dice = random.Random(SEED)
    worker, open_before = target.worker(), _descriptors(target)
    seen: Counter[int] = Counter()
    for number in range(CONNECTIONS):
        with linked(target) as link:
            try:
                for _ in range(5):
                    link.sendall(_request(dice, deal.token))
            except OSError:
                pass  # It has closed the connection already, as it may.
            statuses = _statuses(_said(link))
        assert set(statuses) <= ALLOWED, (number, statuses)
        seen += Counter(statuses)
    sys.stdout.write(f"\n{5 * CONNECTIONS} malformed requests, answers by status: {dict(seen)}\n")
    assert {200, 400, 404} <= set(seen)
    assert _serves(target, deal)
    assert target.worker() == worker
    builders.until(lambda: _descriptors(target) <= open_before)
    _clean(target, deal)


def _descriptors(gateway) -> int:
    """Return how many files and sockets it has open."""
    return len(list(Path(f"/proc/{gateway.worker()}/fd").iterdir()))


def _clean(gateway, deal) -> None:
    """Fail where its log holds a failure of its own, or what nobody may read there."""
    output = gateway.output()
    assert "Traceback" not in output
    assert "failed" not in output
    assert "s3cret" not in output
    assert deal.token not in output
    assert deal.token.rpartition("_")[2][-20:] not in output


def test_pipelined_requests_are_answered_each_and_in_their_order(target, deal):
    ask = (
        f"GET /v1/keys/ledger-reader HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {deal.token}\r\n\r\n"
        "GET /v1/keys/never-heard-of HTTP/1.1\r\nHost: x\r\n\r\n"
    ).encode()
    with linked(target) as link:
        link.sendall(ask * 20)
        heard = b""
        while len(_statuses(heard)) < 40:
            chunk = link.recv(65_536)
            assert chunk, "the connection was closed before all were answered"
            heard += chunk

    assert _statuses(heard) == [200, 401] * 20
    assert heard.count(b'"value":"s3cret-1"') == 20


@pytest.mark.parametrize("size", [70_000, 2_000_000])
def test_a_head_that_is_too_large_is_refused(target, deal, size):
    with linked(target) as link:
        with suppress(OSError):  # It need not read on.
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nLong: " + b"x" * size)
        assert set(_statuses(_said(link))) <= {400, 431}
    assert _serves(target, deal)


def test_a_body_that_nobody_wants_is_not_waited_for(target, deal):
    with linked(target) as link:
        link.sendall(b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n123")
        assert _statuses(_said(link)) == [405]
    assert _serves(target, deal)


def test_many_slow_heads_do_not_keep_others_out(target, deal):
    links = [socket.create_connection(("127.0.0.1", target.port), timeout=LONG_S) for _ in range(200)]  # fmt: skip
    try:
        for link in links:
            link.sendall(b"GET /v1/keys/ledger-reader HTTP/1.1\r\nHost: x\r\nSlow: ")
        assert _serves(target, deal)
        # A head has five seconds to arrive (the harness sets it); then its connection is closed.
        for link in links[:5]:
            link.settimeout(LONG_S)
            heard = link.recv(4096)
            assert heard == b"" or heard.startswith(b"HTTP/1.1 4")
    finally:
        for link in links:
            link.close()


def test_many_slow_bodies_keep_nobody_out_and_leave_nothing_behind(target, deal):
    ask = (
        f"GET /v1/keys/ledger-reader HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {deal.token}\r\n"
        "Content-Length: 10000000\r\n\r\n"
    ).encode()
    open_before = _descriptors(target)
    with ExitStack() as stack:
        links = [stack.enter_context(linked(target)) for _ in range(200)]
        for link in links:
            link.sendall(ask)
        assert _serves(target, deal)
        for link in links:
            with suppress(OSError):  # It may have closed the connection after its answer.
                link.sendall(b"x")
        assert _serves(target, deal)
        assert [_statuses(link.recv(65_536)) for link in links] == [[200]] * len(links)
    builders.until(lambda: _descriptors(target) <= open_before)


def _resident(pid: int) -> int:
    """Return the bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def test_its_memory_does_not_grow_with_what_is_thrown_at_it(target, deal):
    dice = random.Random(99)

    def throw(count: int) -> None:
        with cleartext.Client(base_url=target.url) as client:
            for _ in range(count):
                name = dice.randbytes(150).hex()
                client.get(f"/v1/keys/{name}", headers={"Authorization": f"Bearer kvt_{name}"})

    throw(500)
    before = _resident(target.worker())
    throw(3000)
    time.sleep(0.2)

    assert _resident(target.worker()) < 1.25 * before
    _clean(target, deal)
