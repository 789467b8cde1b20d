"""Reading keys over real HTTP: who gets them, in what form, and what everybody else is told."""

from __future__ import annotations

import contextlib
import http.client
import json
from datetime import timedelta

import pytest
from django.db import transaction

from keyvault.agents.models import Agent, AgentState
from keyvault.inventory.models import DeliveryMode, Key, KeyState
from tests import cleartext
from tests.keyvault.agents import builders as agents
from tests.keyvault.gateway import builders

pytestmark = pytest.mark.django_db(transaction=True)


def _get(gateway, path, headers=None, **more):
    return cleartext.get(gateway.url + path, headers=headers, **more)


def _first(gateway, deal):
    """Read a key, once the gateway has heard of it."""
    return builders.until(lambda: _served(gateway, deal))


def _served(gateway, deal):
    found = _get(gateway, f"/v1/keys/{deal.key.name}", deal.headers)
    return found if found.status_code == 200 else None


def test_an_agent_reads_the_key_it_is_granted(gateway, cast):
    deal = builders.deal(cast)

    found = _first(gateway, deal)

    assert found.json() == {
        "key": "ledger-reader",
        "version": 1,
        "value": "s3cret-1",
        "expires_at": found.json()["expires_at"],
        "not_after": found.json()["not_after"],
        "etag": found.headers["etag"],
    }
    assert found.json()["not_after"].startswith(str((cast.now + timedelta(days=30)).date()))
    assert found.headers["cache-control"] == "no-store"
    assert found.headers["content-type"] == "application/json"
    assert gateway.logged()[-1].startswith("ledger-reader 1 ")
    assert deal.issued.token.public_id in gateway.logged()[-1]


@pytest.mark.parametrize(
    "value", ['with "quotes" and \\', "line\nbreak\t", "schlüssel-秘密", "plain~!@#$%^&*()", " "]
)
def test_any_text_arrives_as_it_was_sealed(gateway, cast, value):
    deal = builders.deal(cast, value=value)

    assert _first(gateway, deal).json()["value"] == value


def test_several_values_come_as_fields(gateway, cast):
    deal = builders.deal(cast, value="the-password", user='some"one')

    found = _first(gateway, deal).json()

    assert found["fields"] == {"user": 'some"one', "value": "the-password"}
    assert "value" not in found


def test_what_belongs_to_a_value_and_is_no_secret_comes_with_it(gateway, cast):
    deal = builders.deal(cast, public={"username": "orders_a", "host": "db.example.com"})

    found = _first(gateway, deal).json()

    assert found["value"] == "s3cret-1"
    assert found["public"] == {"username": "orders_a", "host": "db.example.com"}


def test_a_copy_that_is_current_is_not_sent_or_recorded_again(gateway, cast):
    deal = builders.deal(cast)
    etag = _first(gateway, deal).headers["etag"]
    reads = len(gateway.logged())

    known = {**deal.headers, "If-None-Match": etag}
    again = _get(gateway, "/v1/keys/ledger-reader", known)

    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert len(gateway.logged()) == reads
    builders.add_version(cast, deal.key, "s3cret-2")
    moved = builders.until(lambda: _moved(gateway, known))
    assert moved.json()["value"] == "s3cret-2"


def _moved(gateway, headers):
    found = _get(gateway, "/v1/keys/ledger-reader", headers)
    return found if found.status_code == 200 else None


def test_a_previous_version_is_read_by_its_number_and_no_other_is(gateway, cast):
    deal = builders.deal(cast)
    builders.add_version(cast, deal.key, "s3cret-2")
    builders.until(lambda: _first(gateway, deal).json()["version"] == 2)

    def read(version):
        return _get(gateway, f"/v1/keys/ledger-reader?version={version}", deal.headers)

    assert read("1").json()["value"] == "s3cret-1"
    assert read("2").json()["value"] == read("current").json()["value"] == "s3cret-2"
    assert read("3").status_code == 404
    assert read("pending").status_code == 404
    for wrong in ("Pending", "-1", "1&version=2", "1" * 30, "", "²"):
        assert read(wrong).status_code == 400, wrong


def test_several_keys_come_at_once_or_not_at_all(gateway, cast):
    deal = builders.deal(cast)
    other = builders.delivered(cast, "mail-sender", "mail-secret")
    agents.granted(cast, deal.agent, other)
    _first(gateway, deal)
    path = "/v1/keys?names=ledger-reader,mail-sender"

    found = builders.until(lambda: _ok(_get(gateway, path, deal.headers)))
    refused = _get(gateway, path + ",nobodys-key", deal.headers)

    assert [(key["key"], key["value"]) for key in found.json()["keys"]] == [
        ("ledger-reader", "s3cret-1"),
        ("mail-sender", "mail-secret"),
    ]
    assert refused.status_code == 404
    assert refused.json()["keys"] == ["nobodys-key"]
    assert "secret" not in refused.text
    for wrong in ("", "a,a", ",".join(f"key-{n}" for n in range(51))):
        assert _get(gateway, f"/v1/keys?names={wrong}", deal.headers).status_code == 400


def _ok(response):
    return response if response.status_code == 200 else None


def test_r30_whatever_is_wrong_with_a_token_is_told_in_the_same_words(gateway, cast):
    deal = builders.deal(cast)
    _first(gateway, deal)
    text = deal.token
    wrong = [
        None,
        {},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {text[:-8]}AAAAAAAA"},
        {"Authorization": f"Bearer {text.replace(text[4:16], 'A' * 12)}"},
        {"Authorization": f"Bearer {text}x"},
        {"Authorization": f"Bearer {text.upper()}"},
    ]

    answers = [_get(gateway, "/v1/keys/ledger-reader", headers) for headers in wrong]

    assert {answer.status_code for answer in answers} == {401}
    assert len({_without_id(answer) for answer in answers}) == 1
    assert {answer.headers["www-authenticate"] for answer in answers} == {'Bearer realm="keyvault"'}


def _without_id(answer):
    problem = answer.json()
    assert problem.pop("request_id")
    return str(problem)


def test_r31_a_key_that_is_missing_forbidden_or_not_delivered_is_the_same_404(gateway, cast):
    deal = builders.deal(cast)
    builders.delivered(cast, "not-granted")
    suspended = builders.delivered(cast, "suspended-one")
    revealed = builders.delivered(cast, "revealed-one")
    Key.objects.filter(pk=suspended.pk).update(state=KeyState.SUSPENDED)
    Key.objects.filter(pk=revealed.pk).update(delivery_mode=DeliveryMode.REVEAL)
    for key in (suspended, revealed):
        agents.granted(cast, deal.agent, key)
    _first(gateway, deal)
    names = ("never-heard-of", "not-granted", "suspended-one", "revealed-one")

    answers = [_get(gateway, f"/v1/keys/{name}", deal.headers) for name in names]

    assert {answer.status_code for answer in answers} == {404}
    told = {
        _without_id(answer).replace(name, "NAME")
        for name, answer in zip(names, answers, strict=True)
    }
    assert len(told) == 1
    asked = answers[0].json()["next_action"]["body"]
    assert (asked["kind"], asked["key"]) == ("grant.give", names[0])
    assert answers[0].headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "%2e%2e%2fkeys", "Root", "%EF%BC%B2oot", "a", "a//b", "x%00y"]
)
def test_r35_what_can_be_no_name_is_refused_as_such(gateway, cast, name):
    deal = builders.deal(cast)
    _first(gateway, deal)

    # httpx would resolve the dots itself; here the path goes out as it is.
    plain = http.client.HTTPConnection("127.0.0.1", gateway.port)
    with contextlib.closing(plain):
        plain.request("GET", f"/v1/keys/{name}", headers=deal.headers)
        answer = plain.getresponse()
        problem = json.loads(answer.read())

    assert (answer.status, problem["type"]) == (400, "urn:keyvault:problem:bad-name")


def test_a_grant_through_a_group_reaches_its_agents_while_they_are_in_it(gateway, cast):
    key, agent = builders.delivered(cast), agents.agent(cast)
    agents.granted(cast, cast.payments.group, key)
    headers = {"Authorization": f"Bearer {agents.token(cast, agent).text.reveal().decode()}"}
    builders.until(lambda: _get(gateway, "/v1/keys/ledger-reader", headers).status_code == 404)

    stay = agent.memberships.create(group=cast.payments.group, joined_at=cast.now)
    builders.until(lambda: _ok(_get(gateway, "/v1/keys/ledger-reader", headers)))
    agent.memberships.filter(pk=stay.pk).update(left_at=cast.now)

    builders.until(lambda: _get(gateway, "/v1/keys/ledger-reader", headers).status_code == 404)


def test_a_narrowed_token_reaches_only_its_keys(gateway, cast):
    deal = builders.deal(cast)
    narrow = agents.token(cast, deal.agent, keys=["mail-sender"]).text.reveal().decode()
    _first(gateway, deal)
    headers = {"Authorization": f"Bearer {narrow}"}

    def known():
        found = _get(gateway, "/v1/keys/ledger-reader", headers)
        return found if found.status_code != 401 else None

    assert builders.until(known).status_code == 404


def test_a_token_and_a_grant_end_at_their_moment_without_anybody_telling(gateway, cast):
    deal = builders.deal(cast)
    _first(gateway, deal)
    type(deal.grant).objects.filter(pk=deal.grant.pk).update(
        starts_at=cast.now - timedelta(days=2), ends_at=cast.now + timedelta(seconds=3)
    )
    builders.until(lambda: _first(gateway, deal))

    builders.until(
        lambda: _get(gateway, "/v1/keys/ledger-reader", deal.headers).status_code == 404, 10
    )


def test_a_person_is_told_that_values_are_for_agents(gateway, cast):
    token = agents.token(cast, cast.alice).text.reveal().decode()
    deal = builders.deal(cast)
    _first(gateway, deal)  # It knows what was made before, too.

    answer = _get(gateway, "/v1/keys/ledger-reader", {"Authorization": f"Bearer {token}"})

    assert answer.status_code == 403
    assert answer.json()["next_action"]["href"].endswith("/keys/")


def test_a_suspended_agent_is_nobody(gateway, cast):
    deal = builders.deal(cast)
    _first(gateway, deal)

    with transaction.atomic():
        Agent.objects.filter(pk=deal.agent.pk).update(state=AgentState.SUSPENDED)

    builders.until(lambda: _get(gateway, "/v1/keys/ledger-reader", deal.headers).status_code == 401)


def test_without_a_record_there_is_no_value(gateway, cast):
    deal = builders.deal(cast)
    _first(gateway, deal)
    gateway.lines.with_suffix(".broken").touch()

    refused = _get(gateway, "/v1/keys/ledger-reader", deal.headers, timeout=2)

    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert "s3cret" not in refused.text
    gateway.lines.with_suffix(".broken").unlink()
    assert _first(gateway, deal)


def test_r3_a_value_that_does_not_open_in_its_place_is_no_value(gateway, cast):
    deal = builders.deal(cast)
    _first(gateway, deal)
    from keyvault.vault.models import Sealed

    row = Sealed.objects.get(subject_id=deal.key.pk)
    Sealed.objects.filter(pk=row.pk).update(blob=bytes(row.blob)[:-1] + b"\x00")

    builders.until(lambda: _get(gateway, "/v1/keys/ledger-reader", deal.headers).status_code == 500)
    assert "s3cret" not in _get(gateway, "/v1/keys/ledger-reader", deal.headers).text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/keys/ledger-reader", 405),
        ("DELETE", "/v1/keys", 405),
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/keys?name=x", 400),
        ("GET", "/v1/keys?names=a&names=b", 400),
        ("GET", "/v1/keys/" + "a" * 5000, 414),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
    ],
)
def test_other_addresses_and_methods_are_refused(gateway, method, path, status):
    answer = cleartext.request(method, gateway.url + path)

    assert answer.status_code == status
    assert answer.headers["cache-control"] == "no-store"
