"""R43 at the gateway: what is huge, deep, slow or endless costs its sender, and nobody else.

How long a refusal takes is counted in processor time of the gateway, which a
busy machine does not lengthen; that it comes at all has a generous bound.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests import cleartext
from tests.keyvault.gateway import builders, harness

pytestmark = pytest.mark.django_db(transaction=True)

LONG_S = 60
PROCESSOR_S = 1.0
MEMORY_KB = 100_000
SLOW = 100
KEY = "ledger-reader"
MEGABYTE = b"x" * 1_000_000


@pytest.fixture(scope="module")
def target(django_db_setup, keys, tmp_path_factory):
    """Return a gateway that lets one source ask, and be refused, as often as it likes."""
    plenty = {"KEYVAULT_GATEWAY_REFUSAL_RATE": "1000000", "KEYVAULT_GATEWAY_AGENT_RATE": "1000000"}
    with harness.shared(tmp_path_factory.mktemp("bombs"), keys.path, **plenty) as started:
        yield started[0]


@pytest.fixture
def deal(target, cast):
    """Return a deal that the gateway knows."""
    found = builders.deal(cast)
    builders.until(lambda: _read(target, found) == 200)
    return found


def _read(gateway, deal) -> int:
    url = f"{gateway.url}/v1/keys/{KEY}"
    return cleartext.get(url, headers=deal.headers, timeout=LONG_S).status_code


@contextmanager
def bystander(gateway, deal) -> Iterator[None]:
    """Let somebody else read on and on during the block; each of their reads is answered."""
    over, seen = threading.Event(), []

    def read() -> None:
        with cleartext.Client(base_url=gateway.url, headers=deal.headers, timeout=LONG_S) as client:
            while not over.is_set():
                seen.append(client.get(f"/v1/keys/{KEY}").status_code)
                over.wait(0.005)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        builders.until(lambda: seen)
        before = len(seen)
        yield
        builders.until(lambda: len(seen) > before)
    finally:
        over.set()
        thread.join()
    assert set(seen) == {200}


@contextmanager
def bounded(gateway, *, tries: int = 1) -> Iterator[None]:
    """Fail where the block cost the gateway more processor time or memory than it may."""
    pid = gateway.worker()
    processor, memory = _processor_s(pid), _most_kb(pid)
    yield
    assert _processor_s(pid) - processor < PROCESSOR_S * tries
    assert _most_kb(pid) - memory < MEMORY_KB
    assert gateway.worker() == pid
    assert "Traceback" not in gateway.output()


def _processor_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _most_kb(pid: int) -> int:
    """Return the most memory that a process has ever held, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _head(deal, first: str, *more: str) -> bytes:
    token = deal.headers["Authorization"]
    lines = [first, "Host: gateway", f"Authorization: {token}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def _connected(gateway) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=LONG_S)


def _status(link: socket.socket) -> int | None:
    """Return the status that comes, or None where the connection was cut instead."""
    heard = b""
    with suppress(ConnectionError):
        while len(heard) < 12 and (chunk := link.recv(4096)):
            heard += chunk
    return int(heard.split()[1]) if heard else None


def _keys(count: int) -> bytes:
    return b'{"keys":{%s}}' % b",".join(b'"k%d":1' % n for n in range(count))


# Those that fit into 64 KB reach the parser; the others are refused by their length.
BOMBS = {
    "depth of 100,000": (b"[" * 100_000 + b"]" * 100_000, 413),
    "depth of 30,000": (b"[" * 30_000 + b"]" * 30_000, 400),
    "depth inside a key": (b'{"keys":{"a":' + b'{"a":' * 9_000 + b"1" + b"}" * 9_002, 400),
    "a million keys": (_keys(1_000_000), 413),
    "6,000 keys": (_keys(6_000), 400),
    "one key 6,000 times": (b'{"keys":{%s}}' % b",".join([b'"a-key":1'] * 6_000), 404),
    "huge number": (b'{"keys":{"a-key":%s}}' % (b"9" * 60_000), 400),
    "huge exponent": (b'{"keys":{"a-key":1e999999999}}', 400),
    "huge fraction": (b'{"keys":{"a-key":0.%s}}' % (b"1" * 60_000), 400),
    "huge name": (b'{"keys":{"%s":1}}' % (b"a" * 60_000), 400),
    "huge unknown member": (b'{"x":"%s"}' % (b"\\u0041" * 10_000), 400),
    "lone surrogates": (b'{"keys":{"%s":1}}' % (b"\\ud800" * 10_000), 400),
}


@pytest.mark.parametrize("name", BOMBS)
def test_r43_a_bomb_of_json_is_refused_and_others_are_served(target, deal, name):
    body, status = BOMBS[name]
    url = f"{target.url}/v1/heartbeat"

    with bystander(target, deal), bounded(target):
        answer = cleartext.post(url, headers=deal.headers, content=body, timeout=LONG_S)

    assert answer.status_code == status
    assert len(answer.content) < 2_000


@pytest.mark.parametrize(
    "address",
    [
        "/v1/keys/" + "a" * 4_000,
        "/v1/keys/" + "a-" * 2_000 + "!",
        "/v1/keys?names=" + "a," * 2_000,
        "/v1/keys?names=" + ",".join(f"k{n}" for n in range(700)),
        "/v1/keys?" + "&".join(f"n{n}=" for n in range(600)),
        f"/v1/keys/{KEY}?version=" + "9" * 4_000,
        "/v1/keys/" + "%25" * 1_300,
        "/" + "a" * 60_000,
    ],
    ids=lambda address: address[:24],
)
def test_r43_an_address_that_is_made_to_be_slow_is_refused(target, deal, address):
    with bystander(target, deal), bounded(target):
        answer = cleartext.get(target.url + address, headers=deal.headers, timeout=LONG_S)

    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "line", ["h%d: x", "%d:", "Authorization: Bearer %d", "X-Forwarded-For: %d"]
)
def test_r43_ten_thousand_headers_are_refused(target, deal, line):
    lines = [line % number for number in range(10_000)]
    with bystander(target, deal), bounded(target), closing(_connected(target)) as link:
        with suppress(ConnectionError):  # It need not read on.
            link.sendall(_head(deal, f"GET /v1/keys/{KEY} HTTP/1.1", *lines))
        status = _status(link)

    assert status is None or 400 <= status < 500


def _send_on(link: socket.socket, *, chunked: bool) -> None:
    """Send 100 MB, or as much of it as the other side takes."""
    part = b"%x\r\n%s\r\n" % (len(MEGABYTE), MEGABYTE) if chunked else MEGABYTE
    link.settimeout(LONG_S)
    with suppress(ConnectionError):
        for _ in range(100):
            link.sendall(part)


@pytest.mark.parametrize("length", ["Content-Length: 100000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("first", ["POST /v1/heartbeat", f"GET /v1/keys/{KEY}", "POST /v1/keys"])
def test_r43_a_hundred_megabytes_are_not_held(target, deal, first, length):
    with bystander(target, deal), bounded(target, tries=2), closing(_connected(target)) as link:
        link.sendall(_head(deal, f"{first} HTTP/1.1", length))
        _send_on(link, chunked="chunked" in length)
        status = _status(link)

    wanted = {"POST /v1/heartbeat": 413, "POST /v1/keys": 405}.get(first, 200)
    assert status in {wanted, None}


def test_r43_a_hundred_slow_bodies_keep_nobody_out_and_are_ended(target, deal):
    with bystander(target, deal), bounded(target), ExitStack() as stack:
        links = [stack.enter_context(closing(_connected(target))) for _ in range(SLOW)]
        for link in links:
            link.sendall(_head(deal, "POST /v1/heartbeat HTTP/1.1", "Content-Length: 1000") + b"{")

        assert _read(target, deal) == 200
        assert [_status(link) for link in links] == [408] * SLOW


def test_r43_a_body_that_comes_byte_by_byte_is_ended_all_the_same(target, deal):
    """Each byte is in time, and all of them together are not."""
    ended = threading.Event()
    with closing(_connected(target)) as link:
        link.sendall(_head(deal, "POST /v1/heartbeat HTTP/1.1", "Content-Length: 60000"))

        def drip() -> None:
            with suppress(OSError):
                while not ended.wait(0.1):
                    link.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert _status(link) == 408
        finally:
            ended.set()
            thread.join()
