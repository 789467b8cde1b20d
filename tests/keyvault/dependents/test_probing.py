"""What one GET to an approved address proves, which addresses can be approved, and what is never told."""

from __future__ import annotations

import json
import time

import pytest

from keyvault.dependents import probing
from keyvault.dependents.models import Answer
from tests.keyvault.outbound.test_ways_out import serving


def says(status, body=b"", **headers):
    """Return what a server answers with to everything."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, text in headers.items():
            handler.send_header(name, text)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def heard(answer, key="ledger-reader"):
    with serving(answer) as server:
        port = server.server_address[1]
        found = probing.hear(f"http://127.0.0.1:{port}/health", f"http://127.0.0.1:{port}", key=key)
    return found, server.seen


def test_a_good_status_says_that_it_is_well_and_nothing_of_its_version():
    found, seen = heard(says(204))

    assert (found.answer, found.status, found.number) == (Answer.HEALTHY, 204, None)
    [(path, sent)] = seen
    assert path == "/health"
    assert set(map(str.lower, sent)) == {"host", "accept", "accept-encoding", "user-agent"}


def test_a_body_names_the_version_that_it_has_loaded():
    body = json.dumps({"status": "up", "keyvault": {"other": 9, "ledger-reader": 3}}).encode()

    assert heard(says(200, body))[0].number == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"3",
        b"\xff\xfe",
        b"[" * 16_000,
        b'{"keyvault": 3}',
        b'{"keyvault": {"ledger-reader": "3"}}',
        b'{"keyvault": {"ledger-reader": true}}',
        b'{"keyvault": {"ledger-reader": 0}}',
        b'{"keyvault": {"ledger-reader": 2147483648}}',
        b'{"keyvault": {"Ledger-Reader": 3}}',
        b'{"keyvault": {"ledger-reader": 3}}' + b" " * 16_384,
    ],
)
def test_a_body_of_another_form_names_no_version(body):
    found, _ = heard(says(200, body))

    assert (found.answer, found.number) == (Answer.HEALTHY, None)


def test_a_version_is_taken_from_a_good_answer_alone():
    found, _ = heard(says(503, b'{"keyvault": {"ledger-reader": 3}}'))

    assert (found.answer, found.status, found.number) == (Answer.BAD, 503, None)


@pytest.mark.parametrize("status", [301, 307, 429])
def test_a_redirect_and_a_limit_say_nothing_of_its_health(status):
    found, seen = heard(says(status, Location="/elsewhere"))

    assert (found.answer, len(seen)) == (Answer.NONE, 1), "no redirect is followed"


def test_a_slow_answer_is_none_and_ends_in_time():
    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.1)

    began = time.monotonic()
    found, _ = heard(drip)

    assert found.answer == Answer.NONE
    assert time.monotonic() - began < probing.ASK_S + 2


def test_an_answer_without_end_is_none():
    assert heard(says(200, b" " * 1_100_000))[0].answer == Answer.NONE


def test_nobody_there_is_none_and_an_address_that_was_not_approved_is_not_reached():
    with serving(says(200)) as server:
        port = server.server_address[1]
        address = f"http://127.0.0.1:{port}/"
        assert probing.hear(address, "", key="k").answer == Answer.REFUSED
        other = f"http://127.0.0.1:{port + 1}"
        assert probing.hear(address, other, key="k").answer == Answer.REFUSED
        assert server.seen == []
    assert probing.hear(address, address.rstrip("/"), key="k").answer == Answer.NONE


@pytest.mark.parametrize(
    ("text", "is_private", "url", "allowed"),
    [
        ("https://Orders.Example.com/health", False, "https://orders.example.com/health", ""),
        ("https://orders.example.com:443", False, "https://orders.example.com/", ""),
        (
            "http://orders.internal:8080/up",
            True,
            "http://orders.internal:8080/up",
            "http://orders.internal:8080",
        ),
        ("https://10.1.2.3/up", True, "https://10.1.2.3/up", "10.1.2.3:443"),
        ("https://[fd00::7]:8443/up", True, "https://[fd00::7]:8443/up", "[fd00::7]:8443"),
    ],
)
def test_an_address_has_one_spelling_and_opens_itself_alone(text, is_private, url, allowed):
    assert probing.clean(text, is_private=is_private) == probing.Address(url, allowed)


@pytest.mark.parametrize(
    ("text", "is_private"),
    [
        ("", False),
        ("orders.example.com/health", False),
        ("ftp://orders.example.com/", False),
        ("http://orders.example.com/", False),
        ("https://user:word@orders.example.com/", False),
        ("https://orders.example.com/?token=1", False),
        ("https://orders.example.com/#x", False),
        ("https://orders.example.com/a b", False),
        ("https://orders.example.com\\@evil.example/", False),
        ("https://örders.example.com/", False),
        ("https://orders.example.com:99999/", False),
        ("https://2130706433/", True),
        ("https://0x7f.1/", True),
        ("https://10.1.2.3/", False),
        ("https://169.254.169.254/latest", True),
        ("https://[fe80::1%25eth0]/", True),
        ("https://[::ffff:169.254.169.254]/", True),
        ("https://" + "a" * 300 + ".example.com/", False),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anybody_approves_it(text, is_private):
    with pytest.raises(probing.BadAddress):
        probing.clean(text, is_private=is_private)
