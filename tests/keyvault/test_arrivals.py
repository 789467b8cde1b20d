"""R43: what arrives slowly or is too long costs its sender, and nobody else, in counts and bytes."""

from __future__ import annotations

import re
import threading
import time
from io import BytesIO

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.http import HttpResponse

from keyvault import arrivals
from keyvault.api import bodies, document, forms, limits, problems, urls, waiting
from keyvault.api.door import bounds_of
from keyvault.arrivals import Room
from keyvault.audit import context
from keyvault.launcher import processes
from tests.keyvault.accounts.test_every_address import address, patterns
from tests.keyvault.api.conftest import as_

__all__ = ["as_"]  # Fixtures are found by name here.
application = get_wsgi_application()


class Slow(BytesIO):
    """A body of which one byte has come; the rest comes when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.rest = threading.Event(), threading.Event()

    def read(self, size: int = -1) -> bytes:
        """Wait for the rest."""
        self.asked.set()
        assert self.rest.wait(60), "the test forgot this body"
        return b"x" * size


class Counting(BytesIO):
    """A body without end that counts what is taken of it."""

    taken = 0

    def read(self, size: int = -1) -> bytes:
        """Return as much as is asked for."""
        self.taken += size
        return b" " * max(size, 0)


def _request(stream, *, length=10, source="192.0.2.7", path="/api/v1/requests"):
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "CONTENT_LENGTH": str(length),
        "CONTENT_TYPE": "application/json",
        "REMOTE_ADDR": source,
        "wsgi.input": stream,
        "wsgi.url_scheme": "http",
    }
    return WSGIRequest(environ)


class Door:
    """The middleware before a view that counts who came through."""

    def __init__(self) -> None:
        self.through: list[bytes] = []
        self._bodies = arrivals.Bodies(self._view)

    def _view(self, request) -> HttpResponse:
        self.through.append(request.body)
        return HttpResponse("done")

    def enter(self, stream, *, source="192.0.2.7", **more) -> HttpResponse:
        """Send one request."""
        with context.origin(context.Origin(ip=source)):
            return self._bodies(_request(stream, source=source, **more))


@pytest.fixture
def door(monkeypatch):
    monkeypatch.setattr(arrivals, "room", Room())
    monkeypatch.setattr(arrivals, "SOON_S", 0.2)
    return Door()


@pytest.fixture
def slow(door):
    """Return a function that makes slow bodies, which all end before their room does."""
    made: list[Slow] = []

    def body() -> Slow:
        made.append(Slow())
        return made[-1]

    yield body
    for one in made:
        one.rest.set()
    _until(lambda: not arrivals.room._reading and not arrivals.room._waiting)


def _until(is_so) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def _held(door, bodies_, source="192.0.2.7"):
    """Start to send slow bodies; return their threads once each of them waits."""
    threads = [
        threading.Thread(target=door.enter, args=(body,), kwargs={"source": source}, daemon=True)
        for body in bodies_
    ]
    before = arrivals.room._waiting
    for thread in threads:
        thread.start()
    _until(lambda: arrivals.room._waiting == before + len(threads))
    return threads


def test_r43_a_body_that_is_late_is_refused_and_no_view_ever_saw_it(door, slow, monkeypatch):
    monkeypatch.setattr(arrivals, "WITHIN_S", arrivals.SOON_S + 0.05)

    answer = door.enter(slow())

    assert answer.status_code == 408
    assert int(answer["Retry-After"]) > 0
    assert door.through == []
    assert door.enter(BytesIO(b"0123456789")).status_code == 200


def test_r43_one_source_that_sends_slowly_has_few_threads_and_others_go_on(door, slow):
    _held(door, [slow() for _ in range(arrivals.LATE_OF_SOURCE)])

    assert door.enter(BytesIO(b"0123456789")).status_code == 503
    assert door.enter(BytesIO(b"0123456789"), source="192.0.2.8").status_code == 200
    assert door.enter(BytesIO(), length=0).status_code == 200, "what brings nothing waits for none"


def test_r43_late_bodies_count_against_their_source_and_hold_no_thread(door, slow, monkeypatch):
    monkeypatch.setattr(arrivals, "WITHIN_S", arrivals.SOON_S + 0.05)
    late = [slow() for _ in range(arrivals.LATE_OF_SOURCE)]
    for body in late:
        assert door.enter(body).status_code == 408

    assert arrivals.room._waiting == 0
    assert door.enter(BytesIO(b"0123456789")).status_code == 503
    assert door.enter(BytesIO(b"0123456789"), source="192.0.2.8").status_code == 200


def test_r43_readers_of_all_sources_together_are_bounded(door, slow, monkeypatch):
    monkeypatch.setattr(arrivals, "WITHIN_S", arrivals.SOON_S + 0.05)
    monkeypatch.setattr(arrivals, "LATE", 2)
    for source in ("192.0.2.7", "192.0.2.8"):
        assert door.enter(slow(), source=source).status_code == 408

    assert door.enter(BytesIO(b"0123456789"), source="192.0.2.9").status_code == 503


def test_r43_who_is_late_again_and_again_waits_although_each_body_ended(door, slow, monkeypatch):
    monkeypatch.setattr(arrivals, "WITHIN_S", arrivals.SOON_S + 0.05)
    monkeypatch.setattr(arrivals, "TARDINESS", limits.Rate(per_s=0.001, burst=2))
    for _ in range(2):
        body = slow()
        assert door.enter(body).status_code == 408
        body.rest.set()
    _until(lambda: not arrivals.room._reading)

    assert door.enter(BytesIO(b"0123456789")).status_code == 503
    assert door.enter(BytesIO(b"0123456789"), source="192.0.2.8").status_code == 200


def test_many_bodies_at_once_that_are_whole_are_all_taken(door, monkeypatch):
    monkeypatch.setattr(arrivals, "SOON_S", 60)
    barrier, statuses = threading.Barrier(16), []

    def send():
        barrier.wait()
        statuses.append(door.enter(BytesIO(b"0123456789")).status_code)

    threads = [threading.Thread(target=send) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 16


def test_r43_one_network_of_ipv6_is_one_source(door, slow):
    for n in range(arrivals.LATE_OF_SOURCE):
        _held(door, [slow()], source=f"2001:db8:0:1::{n:x}")

    assert door.enter(BytesIO(b"0123456789"), source="2001:db8:0:1::ff").status_code == 503
    assert door.enter(BytesIO(b"0123456789"), source="2001:db8:0:2::1").status_code == 200


def test_r43_all_slow_sources_together_leave_threads_for_others(door, slow):
    sources = [f"192.0.2.{n}" for n in range(arrivals.WAITING)]
    for source in sources:
        _held(door, [slow()], source=source)

    assert door.enter(slow(), source="198.51.100.1").status_code == 503
    assert door.enter(BytesIO(b"0123456789"), source="198.51.100.2").status_code == 200
    assert door.enter(BytesIO(), length=0, source="198.51.100.1").status_code == 200
    assert arrivals.WAITING + waiting.PLACES < processes._THREADS


def test_a_place_is_given_back_when_the_body_has_come(door, slow):
    late = [slow() for _ in range(arrivals.LATE_OF_SOURCE)]
    threads = _held(door, late)
    for body in late:
        body.rest.set()
    for thread in threads:
        thread.join(60)

    assert door.enter(BytesIO(b"0123456789")).status_code == 200
    assert door.through == [b"x" * 10] * len(late) + [b"0123456789"]
    assert (arrivals.room._reading, arrivals.room._waiting) == ({}, 0)


def test_a_sender_that_goes_away_in_the_middle_costs_nothing(door):
    class Gone(BytesIO):
        def read(self, _size: int = -1) -> bytes:
            raise ConnectionResetError

    assert door.enter(Gone()).status_code == 408
    assert door.through == []
    assert (arrivals.room._reading, arrivals.room._waiting) == ({}, 0)


def test_a_body_that_gets_no_thread_is_refused_and_keeps_no_place(door, monkeypatch):
    def start(_reader) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without_threads:
        without_threads.setattr(arrivals.Reader, "start", start)
        for _ in range(arrivals.LATE_OF_SOURCE):
            assert door.enter(BytesIO(b"0123456789")).status_code == 503

    assert door.enter(BytesIO(b"0123456789")).status_code == 200
    assert arrivals.room._reading == {}


def _posts() -> list[str]:
    """Return one address for each route of the console and the API."""
    return sorted({"/" + address(route).lstrip("/") for route, _ in patterns()})


@pytest.fixture
def _one_connection():
    """Keep the test's connection: a server closes it after each call, a transaction needs it."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.mark.django_db
@pytest.mark.usefixtures("_one_connection")
@pytest.mark.parametrize("length", ["1000001", "100000000", "9" * 400, "+5", "5_0"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_r43_of_a_hundred_megabytes_no_address_takes_a_byte(cast, length, kind):
    for path in _posts():
        stream = Counting()
        said = []
        environ = _request(stream, length=length, path=path).environ | {"CONTENT_TYPE": kind}
        b"".join(application(environ, lambda status, _headers, said=said: said.append(status)))

        assert said[0][:3] in {"400", "413"}, (path, said)
        assert stream.taken == 0, path


@pytest.mark.django_db
@pytest.mark.parametrize("what", ["size", "depth", "members"])
def test_r43_every_operation_with_a_body_keeps_to_its_bounds(cast, as_, what):
    alice, seen = as_(cast.alice), 0
    for path, method, operation in document.operations(urls.openapi()):
        if "requestBody" not in operation:
            continue
        bounds = bounds_of(operation["operationId"])
        over = {
            "size": b'{"a":"' + b"x" * bounds.size + b'"}',
            "depth": b'{"a":' + b"[" * bodies.MOST_DEPTH + b"]" * bodies.MOST_DEPTH + b"}",
            "members": b'{"a":[' + b"1," * bounds.members + b"1]}",
        }[what]
        where = re.sub(r"\{\w+_id\}", "6f0a7a3e-2f0b-4c57-9a0e-0d5d0b6a4d11", path)

        answer = alice.call(method.upper(), where, over)

        assert answer.status_code == (413 if what == "size" else 400), (where, answer.content)
        assert answer["Content-Type"] == problems.MEDIA_TYPE
        seen += 1
    assert seen >= 4


@pytest.mark.django_db
def test_r43_a_form_of_oauth_keeps_to_its_bounds(cast, client):
    for path in ("token", "revoke", "device"):
        for form in ("a=" + "x" * forms.MOST_BYTES, "&".join(f"f{n}=1" for n in range(21))):
            answer = client.post(f"/api/v1/oauth/{path}", form, content_type=forms.MEDIA_TYPE)
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


ALWAYS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/keys", 200),
        ("GET", "/api/v1/openapi.json", 200),
        ("GET", "/api/v1/keys/missing-key", 404),
        ("GET", "/api/v1/nowhere", 404),
        ("GET", "/api/v1/keys?made=up", 400),
        ("DELETE", "/api/v1/keys", 405),
        ("POST", "/api/v1/requests", 422),
        ("POST", "/api/v1/oauth/token", 400),
        ("GET", "/api/v1/oauth/token", 405),
    ],
)
def test_r43_every_answer_of_the_api_carries_the_headers_of_a_page(cast, as_, method, path, status):
    answer = as_(cast.alice).call(method, path, {} if method == "POST" else None)

    assert answer.status_code == status, answer.content
    assert {name: answer[name] for name in ALWAYS} == ALWAYS
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert "geolocation=()" in answer["Permissions-Policy"]
    assert {"Cookie", "Authorization"} <= {part.strip() for part in answer["Vary"].split(",")}
    assert answer["X-Request-Id"]
    assert not answer.cookies


@pytest.mark.django_db
def test_r43_a_refusal_of_the_wall_itself_is_a_problem_with_the_same_headers(
    cast, as_, monkeypatch
):
    monkeypatch.setattr(arrivals.Room, "admits", lambda *_: False)

    answer = as_(cast.alice).post("/requests", {"kind": "key.revoke"})

    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert answer.json()["type"] == problems.PREFIX + "unavailable"
    assert {name: answer[name] for name in ALWAYS} == ALWAYS

    monkeypatch.setattr(arrivals.Room, "admits", lambda *_: True)

    def gone(reader):
        arrivals.room.ended(reader)

    monkeypatch.setattr(arrivals.Reader, "run", gone)
    late = as_(cast.alice).post("/requests", {"kind": "key.revoke"})
    assert (late.status_code, late.json()["type"]) == (408, problems.PREFIX + "too-slow")


@pytest.mark.django_db
def test_r43_a_noisy_caller_uses_up_its_own_calls_and_nobody_elses(cast, as_, monkeypatch):
    monkeypatch.setattr(limits, "PRINCIPAL", limits.Rate(per_s=0.01, burst=20))
    noisy, quiet = as_(cast.alice), as_(cast.bob)

    loud = [noisy.get("/keys").status_code for _ in range(40)]
    calm = [quiet.get("/keys").status_code for _ in range(20)]

    assert loud == [200] * 20 + [429] * 20
    assert calm == [200] * 20
