"""The frame: problems instead of pages, no cookies, no cross-origin, nothing open but the document."""

from __future__ import annotations

import json
import time

import pytest
from django.test import Client, override_settings
from django.urls import get_resolver

from keyvault.accounts import gates
from keyvault.accounts.models import Installation
from keyvault.api import document, limits, problems, urls
from keyvault.audit import denials
from keyvault.audit.models import Denial, Event
from tests.keyvault.accounts.test_every_address import address, patterns
from tests.keyvault.agents import builders
from tests.keyvault.api.conftest import Caller
from tests.keyvault.api.test_bodies import BOMBS

pytestmark = pytest.mark.django_db
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def is_problem(answer, kind="") -> bool:
    body = answer.json()
    return (
        answer["Content-Type"] == problems.MEDIA_TYPE
        and set(body) >= {"type", "title", "status", "detail", "request_id"}
        and body["status"] == answer.status_code
        and body["request_id"] == answer["X-Request-Id"]
        and body["type"] == problems.PREFIX + (kind or body["type"].removeprefix(problems.PREFIX))
    )


def api_addresses():
    return [address(route) for route, _ in patterns() if route.startswith("api/v1/")]


def test_r37_without_a_token_only_the_document_is_open(cast):
    opened = set()
    for path in api_addresses():
        for method in METHODS:
            limits.buckets.clear()
            answer = Caller().call(method, path)
            assert not answer.cookies, path
            if answer.status_code < 400:
                opened.add((method, path))
            elif "/oauth/" not in path and method != "HEAD":
                assert is_problem(answer), (method, path, answer.content)

    assert opened == {("GET", "/api/v1/openapi.json")}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "bearer kvt_x",
        "Basic YWxpY2U6eA==",
        "Bearer kvt_AAAAAAAAAAAA_" + "A" * 49,
        "Bearer \x00",
        "Bearer " + "A" * 10_000,
    ],
)
def test_r30_every_token_that_opens_nothing_gets_the_same_words(cast, header):
    answer = Caller(headers={"Authorization": header}).get("/keys")

    assert answer.status_code == 401
    assert is_problem(answer, "invalid-token")
    assert answer["WWW-Authenticate"] == 'Bearer realm="keyvault"'
    assert answer.json()["detail"] == problems.KINDS["invalid-token"].mend


def test_an_ended_an_expired_and_a_suspended_token_look_like_an_unknown_one(cast, as_, bot):
    from keyvault.agents.models import AccessToken, Agent

    callers = [as_(cast.alice), as_(cast.bob), as_(bot), as_(cast.mallory)]
    ended, expired = [
        AccessToken.objects.get(public_id=caller.text.split("_")[1]) for caller in callers[:2]
    ]
    AccessToken.objects.filter(pk=ended.pk).update(ended_at=cast.now)
    AccessToken.objects.filter(pk=expired.pk).update(issued_at=cast.now.replace(year=2020))
    AccessToken.objects.filter(pk=expired.pk).update(expires_at=cast.now.replace(year=2021))
    Agent.objects.filter(pk=bot.pk).update(state="suspended")
    cast.mallory.is_active = False
    cast.mallory.save()

    bodies = set()
    for caller in [*callers, Caller("kvt_AAAAAAAAAAAA_" + "A" * 49)]:
        body = caller.get("/keys").json()
        body.pop("request_id")
        bodies.add(json.dumps(body))

    assert len(bodies) == 1


def test_r25_a_session_opens_nothing_here(cast, client_for):
    alice = client_for(cast.alice)

    for path in api_addresses():
        if path == "/api/v1/openapi.json":
            continue
        for method in METHODS:
            limits.buckets.clear()
            answer = alice.generic(method, path, b"{}", content_type="application/json")
            assert answer.status_code in {400, 401, 404, 405, 415}, (method, path)


def test_a_session_beside_a_token_is_neither_read_nor_kept_alive(cast, as_, client_for):
    browser = client_for(cast.frank)
    before = dict(browser.session.items())

    answer = browser.get(
        "/api/v1/keys", headers={"Authorization": f"Bearer {as_(cast.mallory).text}"}
    )

    assert answer.json() == {"items": [], "next_cursor": None}
    assert not answer.cookies
    assert dict(browser.session.items()) == before


def test_no_page_ever_answers_under_api(cast, as_):
    alice = as_(cast.alice)
    for path in (
        "/api",
        "/api/",
        "/api/v2/keys",
        "/api/v1/keys/",
        "/api/v1/..%2f..%2fsetup/",
        "/api/v1/requests/not-a-uuid",
        "/api/v1/keys//",
        "/api/v1/%00",
    ):
        for method in ("GET", "POST", "DELETE"):
            answer = alice.call(method, path)
            if path != "/api":
                assert is_problem(answer), (method, path, answer.content[:80])
            assert answer.status_code in {302, 400, 403, 404, 405}


def test_a_fault_of_ours_is_a_problem_without_a_word_about_it(cast, as_, monkeypatch):
    def broken(*_args, **_more):
        raise RuntimeError("the secret sauce")

    monkeypatch.setattr("keyvault.inventory.selectors.keys_after", broken)

    answer = as_(cast.alice).get("/keys")

    assert answer.status_code == 500
    assert is_problem(answer, "broken")
    assert b"sauce" not in answer.content


def test_before_the_set_up_every_address_says_not_now(cast, as_):
    alice = as_(cast.alice)
    Installation.objects.update(set_up_at=None)

    answer = alice.get("/keys")

    assert answer.status_code == 503
    assert is_problem(answer, "unavailable")


def test_a_foreign_host_is_refused_with_a_problem(cast, as_):
    answer = as_(cast.alice).get("/keys", Host="evil.example")

    assert answer.status_code == 400
    assert is_problem(answer)


def test_a_method_that_an_address_does_not_take_is_told_which_it_takes(cast, as_):
    answer = as_(cast.alice).call("DELETE", "/api/v1/requests")

    assert answer.status_code == 405
    assert is_problem(answer, "method-not-allowed")
    assert answer["Allow"] == "GET, POST"


@pytest.mark.parametrize("method", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_r25_no_header_changes_the_method(cast, as_, method):
    answer = as_(cast.alice).call("GET", "/api/v1/requests", **{method: "DELETE"})

    assert answer.status_code == 200


@pytest.mark.parametrize("name", ["depth", "members", "integer", "quotes"])
def test_r43_a_bomb_gets_4xx_before_it_costs_anything(cast, as_, name):
    alice = as_(cast.alice)
    alice.get("/keys")
    before = time.thread_time()

    answer = alice.post("/requests", BOMBS[name])

    assert 400 <= answer.status_code < 500
    # What others do on this machine at the same time does not count.
    assert time.thread_time() - before < 5


class Unread:
    """A body that nobody may read."""

    def read(self, *_):
        pytest.fail("the body was read")

    readline = read


def test_r43_a_hundred_megabytes_are_refused_by_their_length(cast, as_):
    told = {"CONTENT_LENGTH": "100000000", "wsgi.input": Unread()}

    answer = Client(headers={"Authorization": f"Bearer {as_(cast.alice).text}"}).generic(
        "POST", "/api/v1/requests", content_type="application/json", **told
    )

    assert answer.status_code == 413
    assert is_problem(answer, "too-large")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "text/json"])
def test_a_body_that_is_not_said_to_be_json_is_refused(cast, as_, kind):
    answer = as_(cast.alice).post("/requests", {"kind": "key.revoke"}, Content_Type=kind)

    assert answer.status_code == 415


def test_validation_points_at_the_field_and_repeats_nothing_that_was_sent(cast, as_):
    body = {"kind": "key.revoke", "key": "k" * 400, "reason": "canary-value", "owner": "bob"}

    answer = as_(cast.alice).post("/requests", body)

    assert answer.status_code == 422
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {"/key", "/owner"}
    assert b"canary-value" not in answer.content


def test_no_origin_is_ever_allowed(cast, as_):
    alice = as_(cast.alice)
    for method in ("GET", "OPTIONS"):
        answer = alice.call(
            method,
            "/api/v1/keys",
            Origin="https://evil.example",
            Access_Control_Request_Method="POST",
        )
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "no-store" in answer["Cache-Control"]


FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X_Forwarded_For": "203.0.113.9",
    "X-Real-Ip": "203.0.113.9",
    "Forwarded": "for=203.0.113.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "gopher",
    "X-Original-URL": "/healthz",
    "X-Rewrite-URL": "/healthz",
}


def test_r40_forwarded_headers_change_neither_the_address_nor_the_record(cast, as_):
    dave = as_(cast.dave)
    plain, forged = (
        dave.get("/events?q=time:1h"),
        Caller(dave.text, FORGED).get("/events?q=time:1h"),
    )

    assert forged.status_code == plain.status_code == 200
    assert set(Event.objects.filter(event="audit.searched").values_list("ip", flat=True)) == {
        "127.0.0.1"
    }


@override_settings(TRUSTED_PROXIES=["127.0.0.0/8"])
def test_r40_a_trusted_proxy_is_believed_for_the_address_alone(cast, as_):
    answer = Caller(as_(cast.dave).text, FORGED).get("/events")

    assert answer.status_code == 200
    assert Event.objects.get(event="audit.searched").ip == "203.0.113.9"


def test_refusals_are_counted_for_the_ledger_with_who_was_refused(cast, as_, bot):
    as_(bot).get("/keys/some-key")
    as_(bot).get("/keys/some-key")
    Caller("kvt_nothing").get("/keys")

    counted = {(row.actor_label, row.gate, row.count) for row in Denial.objects.all()}
    assert counted == {
        ("refund-bot", "api/v1/keys/<str:name>", 2),
        (denials.NOBODY.label, "bearer token", 1),
    }


def test_every_address_stands_behind_the_machine_gate_and_the_document_lists_it(cast):
    listed = {path for path, _, _ in document.operations(urls.openapi())}
    routes = {pattern.name: pattern for pattern in urls.urlpatterns}

    assert len(routes) == len(urls.urlpatterns)
    assert {gates.of(one.callback) for name, one in routes.items() if name != "api-document"} == {
        gates.MACHINE
    }
    assert len(listed) == len(urls.urlpatterns) - 2


def test_the_document_is_openapi_3_1_and_public(client):
    answer = client.get("/api/v1/openapi.json")

    body = answer.json()
    assert body["openapi"].startswith("3.1")
    assert body["security"] == [{"bearer": []}]
    assert all(
        {"400", "401", "429"} <= set(operation["responses"])
        for _, _, operation in document.operations(body)
    )


def test_r20_no_address_decides_reveals_or_runs(cast):
    words = {"decide", "approve", "reject", "sign", "execute", "reveal", "run", "resume", "policy"}
    listed = urls.openapi()["paths"]

    assert not [path for path in listed for word in words if word in path.split("/")]
    assert not any("password" in path or "totp" in path for path in listed)
    changing = {
        (method, path) for path, method, _ in document.operations(urls.openapi()) if method != "get"
    }
    assert changing == {
        ("post", "/api/v1/requests"),
        ("patch", "/api/v1/requests/{request_id}"),
        ("post", "/api/v1/requests/{request_id}/withdraw"),
        ("post", "/api/v1/requests/{request_id}/comments"),
        ("post", "/api/v1/usage"),
        # It asks to adopt keys, which policy judges.
        ("post", "/api/v1/imports"),
        # A trigger files a request, which policy judges; a word is of the agent that says it.
        ("post", "/api/v1/keys/{name}/rotations"),
        ("post", "/api/v1/rotations"),
        ("post", "/api/v1/rotations/{rotation_id}/confirm"),
        ("put", "/api/v1/keys/{name}/dependents"),
        # An agent's own credentials, within a right that people have approved.
        ("post", "/api/v1/leases"),
        ("post", "/api/v1/leases/{lease_id}/renew"),
        ("delete", "/api/v1/leases/{lease_id}"),
        # What policies match on is asked for; a title they do not read.
        ("post", "/api/v1/changes"),
        ("put", "/api/v1/keys/{name}/labels"),
        ("patch", "/api/v1/keys/{name}"),
        # It has nothing more begun.
        ("post", "/api/v1/rotations/batches/{batch_id}/stop"),
    }


def test_r25_a_persons_token_opens_no_page_of_the_console(cast, as_):
    headers = {"Authorization": f"Bearer {as_(cast.frank).text}"}

    for route, view in patterns(get_resolver()):
        if gates.of(view) in {gates.PUBLIC, gates.VISITOR, gates.MACHINE, gates.SETUP}:
            continue
        for method in ("GET", "POST"):
            answer = Client().generic(
                method, address(route), b"{}", content_type="application/json", headers=headers
            )
            assert answer.status_code in {302, 403, 404}, (method, route)
            if answer.status_code == 302:
                assert answer["Location"].startswith("/auth/login/")


def test_the_record_says_for_whom_an_agent_acts_and_by_which_token(cast, as_, bot):
    caller = as_(bot)
    caller.get("/keys/nothing-here")
    denials.flush(cast.now, is_forced=True)

    token = builders.token(cast, bot)
    assert token.token.public_id != caller.text.split("_")[1]
    assert Event.objects.get(event="access.refused").actor_label == "refund-bot"
