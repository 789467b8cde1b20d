"""Connections go to the judged address only, and HTTP is capped in time, size and manner."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest

from keyvault.outbound import Allowance, Guard, Lost, Refused, Unreachable, fetch
from tests import certificates

Answer = Callable[[BaseHTTPRequestHandler], None]


class Rebinding:
    """Answers with the next address at each question, as a hostile name server does."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.asked = list(answers), 0

    def __call__(self, *_: object) -> list[str]:
        self.asked += 1
        return [self.answers[min(self.asked, len(self.answers)) - 1]]


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server.seen.append((self.path, dict(self.headers)))
            answer(self)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def ok(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "2")
    handler.end_headers()
    handler.wfile.write(b"ok")


def to(server: ThreadingHTTPServer, path: str = "/") -> tuple[Guard, str]:
    port = server.server_port
    return Guard((Allowance.parse(f"http://127.0.0.1:{port}"),)), f"http://127.0.0.1:{port}{path}"


def test_an_approved_plain_address_is_fetched():
    with serving(ok) as server:
        guard, url = to(server, "/a?b=c")
        got = fetch(guard, "GET", url, headers={"x-one": "1"})
    assert (got.status, got.body, server.seen[0][0]) == (200, b"ok", "/a?b=c")
    assert server.seen[0][1]["x-one"] == "1"


def test_r41_a_rebinding_name_server_gains_nothing():
    """The second answer is never asked for: what was judged is what is connected to."""
    resolve = Rebinding("127.0.0.1", "169.254.169.254")
    with serving(ok) as server:
        allowed = (Allowance.parse(f"http://localhost:{server.server_port}"),)
        got = fetch(
            Guard(allowed, resolve=resolve), "GET", f"http://localhost:{server.server_port}/"
        )
    assert (got.status, resolve.asked) == (200, 1)


def test_r41_a_name_that_turns_to_loopback_is_refused_before_a_byte_is_sent():
    with serving(ok) as server:
        guard = Guard(resolve=Rebinding("127.0.0.1"))
        with pytest.raises(Refused):
            fetch(guard, "GET", f"https://innocent.example:{server.server_port}/")
        assert server.seen == []


def test_r41_a_client_that_connects_by_itself_gets_an_address_not_a_name():
    resolve = Rebinding("93.184.215.14", "127.0.0.1")
    assert Guard(resolve=resolve).dial("db.example", 5432) == "93.184.215.14"
    assert resolve.asked == 1


def test_of_several_addresses_the_first_that_answers_is_dialled():
    with serving(ok) as server:
        port = server.server_port
        allowed = tuple(map(Allowance.parse, (f"127.0.0.0/8:{port}",)))
        guard = Guard(allowed, resolve=lambda *_: ["127.0.0.9", "127.0.0.1"])
        assert guard.dial("localhost", port) == "127.0.0.1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_r41_a_redirect_is_never_followed(status):
    def away(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Location", "http://169.254.169.254/latest/meta-data/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(away) as server:
        got = fetch(*to(server)[:1], "GET", to(server)[1])
        assert (got.status, len(server.seen)) == (status, 1)


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.215.14/",
        "ftp://93.184.215.14/",
        "file:///etc/passwd",
        "https://user@93.184.215.14/",
        "https://user:word@93.184.215.14/",
        "https://93.184.215.14\\@127.0.0.1/",
        "https://93.184.215.14:99999/",
        "https:///nowhere",
        "https://93.184.215.14/a b",
        "https://93.184.215.14/\r\nX: y",
        "https://0x7f.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://127.0.0.1/",
    ],
)
def test_r41_an_address_that_is_not_plainly_https_to_the_outside_is_refused(url):
    with pytest.raises(Refused):
        fetch(Guard(), "GET", url)


@pytest.mark.parametrize("length", ["known", "chunked"])
def test_r41_an_answer_beyond_the_cap_is_dropped(length):
    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if length == "known":
            handler.send_header("Content-Length", "50000000")
        handler.end_headers()
        try:
            for _ in range(50):
                handler.wfile.write(b"x" * 1_000_000)
        except OSError:
            handler.close_connection = True

    with serving(flood) as server:
        guard, url = to(server)
        with pytest.raises(Unreachable):
            fetch(guard, "GET", url)
        with pytest.raises(Lost):
            fetch(guard, "POST", url, body=b"{}")


def test_r41_a_slow_drip_ends_at_the_deadline():
    def drip(handler: BaseHTTPRequestHandler) -> None:
        try:
            for letter in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 500:
                handler.wfile.write(bytes([letter]))
                time.sleep(0.05)
        except OSError:
            handler.close_connection = True

    with serving(drip) as server:
        guard, url = to(server)
        started_at = time.monotonic()
        with pytest.raises(Unreachable):
            fetch(guard, "GET", url, timeout_s=0.5)
        with pytest.raises(Lost):
            fetch(guard, "POST", url, timeout_s=0.5)
        assert time.monotonic() - started_at < 15


def test_nothing_was_sent_when_nobody_listens():
    with serving(ok) as server:
        guard, url = to(server)
    with pytest.raises(Unreachable):
        fetch(guard, "POST", url)


def test_a_hanging_name_server_ends_at_the_deadline():
    guard = Guard(resolve=lambda *_: time.sleep(30) or [])
    started_at = time.monotonic()
    with pytest.raises(Unreachable):
        fetch(guard, "GET", "https://slow.example/", timeout_s=0.3)
    assert time.monotonic() - started_at < 15


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificate:
    return certificates.make(tmp_path_factory.mktemp("tls"), "vault.test")


def test_tls_is_checked_against_the_name_while_the_address_is_pinned(certificate):
    """Server name and Host header stay the name's; only the connection goes to the address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    names: list[str | None] = []
    context.sni_callback = lambda *seen: names.append(seen[1])

    def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(certificate.path))

    with serving(ok, context) as server:
        port = server.server_port
        guard = Guard((Allowance.parse(f"127.0.0.1:{port}"),), resolve=lambda *_: ["127.0.0.1"])
        got = fetch(guard, "GET", f"https://vault.test:{port}/", tls=trusting)
        assert got.status == 200
        assert names == ["vault.test"]
        assert server.seen[0][1]["host"] == f"vault.test:{port}"
        for url, tls in (
            (f"https://other.test:{port}/", trusting),
            (f"https://vault.test:{port}/", ssl.create_default_context),
        ):
            with pytest.raises(Unreachable):
                fetch(guard, "GET", url, tls=tls)


def test_the_system_resolver_knows_this_machine():
    assert {ip_address(text).is_loopback for text in Guard().resolve("localhost", 80)} == {True}
