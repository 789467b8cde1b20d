"""What a webhook in particular must and must not do, before a receiver that checks signatures."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import pytest

from keyvault.crypto.secret import Secret
from keyvault.destinations import standard_webhooks
from keyvault.destinations.base import (
    Conflict,
    Denied,
    Misconfigured,
    State,
    Version,
)
from keyvault.destinations.standard_webhooks import BadSecret, BadSignature
from keyvault.destinations.testing import DestinationConformance, make_version, put_live
from keyvault.destinations.webhook import Webhook
from keyvault.plugins.faults import FaultProxy
from tests.contracts.vendors.place_bench import PlaceBench
from tests.contracts.vendors.server import Answer, serving
from tests.contracts.vendors.webhook_receiver import KEY, Receiver, new_secret, signature

GATEWAY = "https://gateway.example:8001"


class FilledGateway(Webhook):
    """The plug-in, in an installation whose vault has every version before a hook speaks of it."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def stage(self, ctx, version):
        self._fill(version)
        super().stage(ctx, version)

    def promote(self, ctx, version, expect):
        self._fill(version)
        return super().promote(ctx, version, expect)

    def _fill(self, version: Version) -> None:
        self.receiver.gateway[version.id] = version.fields["value"].reveal()


@contextmanager
def receiving() -> Iterator[PlaceBench]:
    receiver = Receiver()
    with serving(receiver), FaultProxy("127.0.0.1", receiver.port) as proxy:
        yield PlaceBench(
            FilledGateway(receiver),
            proxy,
            receiver,
            lambda url: {"url": f"{url}/hook", "status_url": f"{url}/status"},
            {"key": KEY},
            {"signing_secret": Secret.of(receiver.secret)},
            change=rb'"type"',
        )


class TestWebhook(DestinationConformance):
    """What is None here asks for a comparison at the other end, which no hook brings."""

    test_of_two_promotions_at_once_one_wins = None

    @pytest.fixture
    def bench(self) -> Iterator[PlaceBench]:
        with receiving() as bench:
            yield bench


@pytest.fixture
def bench() -> Iterator[PlaceBench]:
    with receiving() as bench:
        yield bench


def health(bench, version):
    return bench.destination.verify(bench.call(), version)


def with_secrets(bench, newest, former=None):
    admin = {"signing_secret": Secret.of(newest)}
    if former is not None:
        admin["former_signing_secret"] = Secret.of(former)
    return replace(bench, admin=admin)


def test_the_events_tell_a_version_and_never_a_value(bench):
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    put_live(bench, second, first)
    bench.destination.stage(bench.call(), first)
    bench.destination.cleanup(bench.call(), [])
    bench.destination.remove(bench.call(), second.id)
    told = [(event["type"], event["data"]["version_id"]) for event in bench.server.events]
    assert told == [
        ("secret.version.staged", first.id),
        ("secret.version.current", first.id),
        ("secret.version.staged", second.id),
        ("secret.version.current", second.id),
        ("secret.version.staged", first.id),
        ("secret.version.discarded", first.id),
        ("secret.version.removed", second.id),
    ]
    for version in (first, second):
        value = version.fields["value"].reveal()
        for hidden in (value, json.dumps(value.decode()).encode()[1:-1], b64encode(value)):
            assert not [body for body in bench.server.bodies if hidden in body]
    assert bench.server.events[3]["data"] == {
        "key": KEY,
        "version_id": second.id,
        "version": 2,
        "previous_version_id": first.id,
    }
    sent_at = bench.server.events[3]["timestamp"]
    assert sent_at.endswith("Z")
    assert datetime.fromisoformat(sent_at).tzinfo is not None


def test_the_hook_names_where_to_fetch_and_to_confirm(bench):
    told = replace(
        bench,
        configure=lambda url: {**bench.configure(url), "gateway_url": f"{GATEWAY}/"},
    )
    put_live(told, make_version())
    data = bench.server.events[-1]["data"]
    assert data["value_url"] == f"{GATEWAY}/v1/keys/{KEY}"
    assert data["ack_url"] == f"{GATEWAY}/v1/heartbeat"


def test_a_receiver_that_still_loads_is_waited_for(bench):
    version = make_version()
    bench.server.is_slow = True
    assert bench.destination.promote(bench.call(), version, None).live == version.id
    assert health(bench, version).state is State.PENDING
    bench.server.settle()
    assert health(bench, version).state is State.OK


def test_a_receiver_that_fails_with_a_version_is_bad(bench):
    version = make_version()
    put_live(bench, version)
    bench.server.is_ill = True
    assert health(bench, version).state is State.BAD


def test_going_back_is_told_also_while_the_receiver_is_slow(bench):
    """What it has not yet done about the version before must not have the last word."""
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    bench.server.is_slow = True
    bench.destination.promote(bench.call(), second, first.id)
    bench.destination.promote(bench.call(), first, second.id)
    bench.destination.promote(bench.call(), first, second.id)
    bench.server.settle()
    assert bench.consumed() == first.fields["value"].reveal()
    assert len(set(bench.server.seen)) == len(bench.server.seen) == 5


def test_a_signing_secret_changes_while_hooks_go_on(bench):
    """keyvault signs with both until the receiver has the new one; then with that alone."""
    old, new = bench.server.secret, new_secret()
    first, second, third = make_version(1), make_version(2), make_version(3)
    put_live(with_secrets(bench, old), first)
    both = with_secrets(bench, new, old)
    put_live(both, second, first)
    assert health(both, second).state is State.OK
    bench.server.secret = new
    assert health(both, second).state is State.OK
    put_live(both, third, second)
    assert health(with_secrets(bench, new, ""), third).state is State.OK
    with pytest.raises(Denied):
        health(with_secrets(bench, old), third)


def test_a_receiver_refuses_what_another_secret_signed(bench):
    stranger = with_secrets(bench, new_secret())
    with pytest.raises(Denied):
        stranger.destination.stage(stranger.call(), make_version())
    assert "401" in stranger.destination.check(stranger.call())[0].sentence
    assert bench.server.events == []


def signed_by(secret):
    def tamper(answer: Answer) -> Answer:
        body = json.dumps(answer.body).encode()
        message_id, now = answer.headers["webhook-id"], answer.headers["webhook-timestamp"]
        found = signature(secret, message_id, now, body)
        return replace(answer, headers={**answer.headers, "webhook-signature": found})

    return tamper


def test_only_an_answer_to_this_question_counts(bench):
    """Unsigned, signed by another, altered, or recorded when it was still true."""
    version, kept = make_version(), []
    put_live(bench, version)

    def record(answer):
        kept.append(answer)
        return answer

    bench.server.tamper = record
    assert health(bench, version).state is State.OK
    (recorded,) = kept
    for tamper in (
        lambda answer: replace(answer, headers={}),
        signed_by(new_secret()),
        lambda answer: replace(answer, body={**answer.body, "state": "failing"}),
        lambda answer: recorded,
    ):
        bench.server.tamper = tamper
        with pytest.raises(Denied):
            health(bench, version)
        (problem,) = bench.destination.check(bench.call())
        assert "not signed for this question" in problem.sentence


@pytest.mark.parametrize(
    "said",
    [
        [],
        "text",
        {"state": "ready"},
        {"key": "other", "state": "empty", "version_id": None, "staged": []},
        {"key": KEY, "state": "empty", "version_id": "v", "staged": []},
        {"key": KEY, "state": "ready", "version_id": None, "staged": []},
        {"key": KEY, "state": "fine", "version_id": "v", "staged": []},
        {"key": KEY, "state": "ready", "version_id": 7, "staged": []},
        {"key": KEY, "state": "ready", "version_id": "v", "staged": [7]},
        {"key": KEY, "state": "ready", "version_id": "v", "staged": ["v"] * 200},
        {"key": KEY, "state": "ready", "version_id": "v"},
    ],
)
def test_a_status_of_another_form_is_named(bench, said):
    sign = signed_by(bench.server.secret)
    bench.server.tamper = lambda answer: sign(replace(answer, body=said))
    with pytest.raises(Misconfigured):
        bench.destination.observe(bench.call())


def test_a_receiver_may_refuse_a_version(bench):
    """It answers 409 where it cannot take it, before anything has moved."""
    bench.server.faults.append(Answer(409, {"error": "not now"}))
    with pytest.raises(Conflict):
        bench.destination.stage(bench.call(), make_version())


def test_a_status_that_is_not_there_yet_is_no_verdict(bench):
    version = make_version()
    put_live(bench, version)
    for status in (404, 409, 429, 503):
        bench.server.faults.append(Answer(status, {}))
        assert health(bench, version).state is State.PENDING
    assert health(bench, version).state is State.OK


def test_the_question_names_the_key_beside_what_the_address_holds(bench):
    asked = replace(
        bench,
        configure=lambda url: {**bench.configure(url), "status_url": f"{url}/status?site=a"},
    )
    assert asked.destination.observe(asked.call()).live is None


@pytest.mark.parametrize("key", ["", "../x", "two words", "a" * 201])
def test_a_key_that_is_no_name_is_refused(bench, key):
    wrong = replace(bench, options={"key": key})
    with pytest.raises(Misconfigured):
        wrong.destination.observe(wrong.call())
    assert bench.server.asked == []


@pytest.mark.parametrize(
    "word", ["", "whsec_", "whsec_c2hvcnQ=", "not base64 at all", "whsec_" + "QUFB" * 40]
)
def test_a_signing_secret_that_is_none_is_named_without_its_text(bench, word):
    wrong = with_secrets(bench, word)
    with pytest.raises(Misconfigured) as failure:
        wrong.destination.observe(wrong.call())
    assert not word or word not in str(failure.value)


# The specification.

SECRET = Secret.of("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
EXAMPLE = {
    "webhook-id": "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
    "webhook-timestamp": "1649367553",
}
BODY = b'{"email":"test@example.com","username":"test_user"}'


def other_secret() -> Secret:
    return Secret.of(new_secret())


def test_a_signature_is_what_the_specifications_library_makes():
    """Made by `standardwebhooks` 1.1.0 over this id, time and body."""
    found = standard_webhooks.sign([SECRET], EXAMPLE["webhook-id"], 1649367553, BODY)
    assert found == {
        **EXAMPLE,
        "webhook-signature": "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    }


def test_two_secrets_give_two_signatures_and_either_is_enough():
    other = other_secret()
    headers = standard_webhooks.sign([other, SECRET], "msg_1", 1000, BODY)
    assert re.fullmatch(r"v1,[^ ,]{44} v1,[^ ,]{44}", headers["webhook-signature"])
    for secret in (SECRET, other):
        found = standard_webhooks.require_signed([secret], headers, BODY, now=1000)
        assert found == "msg_1"
    with pytest.raises(BadSignature):
        standard_webhooks.require_signed([other_secret()], headers, BODY, now=1000)


@pytest.mark.parametrize(
    ("change", "body", "now"),
    [
        ({"webhook-id": "msg_2"}, BODY, 1000),
        ({"webhook-id": ""}, BODY, 1000),
        ({"webhook-timestamp": "1001"}, BODY, 1000),
        ({"webhook-timestamp": "1e3"}, BODY, 1000),
        ({"webhook-timestamp": "٣"}, BODY, 1000),
        ({"webhook-signature": ""}, BODY, 1000),
        ({}, BODY + b" ", 1000),
        ({}, BODY, 1301),
        ({}, BODY, 699),
    ],
)
def test_what_was_changed_or_is_too_old_is_refused(change, body, now):
    headers = standard_webhooks.sign([SECRET], "msg_1", 1000, BODY)
    standard_webhooks.require_signed([SECRET], headers, BODY, now=1300)
    with pytest.raises(BadSignature):
        standard_webhooks.require_signed([SECRET], {**headers, **change}, body, now=now)


def test_a_secret_may_come_without_its_prefix_and_padding():
    long = Secret.of("whsec_" + b64encode(bytes(range(25))).decode())
    short = Secret.of(long.reveal().removeprefix(b"whsec_").rstrip(b"="))
    assert standard_webhooks.sign([long], "m", 1, BODY) == standard_webhooks.sign(
        [short], "m", 1, BODY
    )


def test_a_bad_secret_signs_nothing():
    with pytest.raises(BadSecret):
        standard_webhooks.sign([Secret.of("whsec_AAAA")], "msg_1", 1000, BODY)
