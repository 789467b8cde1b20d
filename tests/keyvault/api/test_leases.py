"""Leases by API: the value once, the refusals in words, and pages of what an agent holds."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from keyvault.agents.models import Agent
from keyvault.api import limits
from keyvault.api.models import ApiReplay
from keyvault.audit.models import Event
from keyvault.leases.models import Lease
from keyvault.plugins.faults import Fault
from tests.keyvault.agents import builders
from tests.keyvault.api.test_requests import kind_of
from tests.keyvault.leases.conftest import lending, proxy, server, shop

__all__ = ["lending", "proxy", "server", "shop"]
pytestmark = pytest.mark.django_db
KEYED = {"Idempotency_Key": "run-42"}


@pytest.fixture
def caller(shop, as_):
    return as_(shop.agent)


def body(shop, **more):
    return {"key": shop.key.name, **more}


def test_the_answer_brings_the_value_once_and_no_cache_keeps_it(shop, caller):
    answer = caller.post("/leases", body(shop, ttl_seconds=600, scopes=["contents:read"]))

    made = answer.json()
    assert answer.status_code == 201
    assert made["fields"]["token"].startswith("ghs_")
    assert made["public"]["permissions"] == "contents:read"
    assert (made["state"], made["agent"], made["scopes"]) == (
        "open",
        shop.agent.name,
        ["contents:read"],
    )
    assert answer["Location"] == f"/api/v1/leases/{made['id']}"
    assert answer["Cache-Control"] == "no-store"
    token = made["fields"]["token"].encode()
    for later in (caller.get(f"/leases/{made['id']}"), caller.get("/leases")):
        assert later.status_code == 200
        assert token not in later.content
        assert later["Cache-Control"] == "no-store"


def test_r8_the_same_call_again_tells_of_the_lease_and_mints_nothing(shop, caller):
    first = caller.post("/leases", body(shop), **KEYED)
    again = caller.post("/leases", body(shop), **KEYED)

    token = first.json()["fields"]["token"]
    assert (again.status_code, again["Idempotent-Replay"]) == (201, "true")
    assert again.json() == {**first.json(), "fields": None}
    assert shop.living() == 1
    assert token not in ApiReplay.objects.get().answer
    assert token not in str(list(Event.objects.values()))


def test_a_person_is_refused_in_words(shop, as_):
    alice = as_(shop.house.cast.alice)
    lease = shop.take().lease
    for answer in (
        alice.post("/leases", body(shop)),
        alice.get("/leases"),
        alice.get(f"/leases/{lease.pk}"),
        alice.post(f"/leases/{lease.pk}/renew", {}),
        alice.delete(f"/leases/{lease.pk}"),
    ):
        assert (answer.status_code, kind_of(answer)) == (403, "forbidden")
        assert "taken and returned by agents" in answer.json()["detail"]


def test_a_key_that_is_not_granted_and_one_that_is_not_there_look_alike(shop, as_):
    other = as_(builders.agent(shop.house.cast, "other-bot"))
    answers = [other.post("/leases", {"key": name}) for name in (shop.key.name, "no-such-key")]

    assert {answer.status_code for answer in answers} == {404}
    told = [answer.json() for answer in answers]
    for one, name in zip(told, (shop.key.name, "no-such-key"), strict=True):
        one.pop("request_id")
        assert one["next_action"]["body"]["key"] == name
        one["next_action"]["body"]["key"] = "NAME"
    assert str(told[0]).replace(shop.key.name, "NAME") == str(told[1]).replace(
        "no-such-key", "NAME"
    )


def test_r32_leases_of_another_agent_open_nothing(shop, as_):
    other = as_(builders.agent(shop.house.cast, "other-bot"))
    lease = shop.take().lease.pk
    for row_id in (lease, uuid4()):
        for answer in (
            other.get(f"/leases/{row_id}"),
            other.post(f"/leases/{row_id}/renew", {}),
            other.delete(f"/leases/{row_id}"),
        ):
            assert (answer.status_code, kind_of(answer)) == (404, "not-found")
    assert other.get("/leases").json()["items"] == []
    assert shop.state(Lease.objects.get()) == "open"


def test_a_lease_is_returned_and_to_repeat_it_is_safe(shop, caller):
    made = caller.post("/leases", body(shop)).json()

    first, again = (caller.delete(f"/leases/{made['id']}") for _ in range(2))

    assert (first.status_code, first.json()["state"]) == (200, "returned")
    assert again.json() == first.json()
    assert shop.living() == 0


def test_a_return_without_an_answer_of_the_provider_is_told_as_ending(shop, caller):
    made = caller.post("/leases", body(shop)).json()
    with shop.proxy.failing(Fault.LOSE_REQUEST, b"DELETE /"):
        answer = caller.delete(f"/leases/{made['id']}")
    assert (answer.status_code, answer.json()["state"]) == (200, "ending")


def test_a_lease_is_renewed_until_its_credential_ends_and_then_leads_to_a_new_one(shop, caller):
    made = caller.post("/leases", body(shop, ttl_seconds=60)).json()
    longer = caller.post(f"/leases/{made['id']}/renew", {"ttl_seconds": 86_400})
    span = datetime.fromisoformat(longer.json()["expires_at"]) - shop.now
    assert timedelta(minutes=59) < span <= timedelta(minutes=61)

    refused = caller.post(f"/leases/{made['id']}/renew", {"ttl_seconds": 86_400})

    assert (refused.status_code, kind_of(refused)) == (409, "conflict")
    follow = refused.json()["next_action"]
    assert (follow["method"], follow["href"], follow["body"]) == (
        "POST",
        "/api/v1/leases",
        {"key": shop.key.name},
    )
    assert caller.post(follow["href"].removeprefix("/api/v1"), follow["body"]).status_code == 201


def test_a_sixth_is_refused_with_what_to_do(shop, caller):
    for _ in range(5):
        assert caller.post("/leases", body(shop)).status_code == 201
    answer = caller.post("/leases", body(shop))
    assert (answer.status_code, kind_of(answer)) == (409, "conflict")
    assert "Return those that are done" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("status", "answered", "words"),
    [
        (403, 409, "Nothing was minted."),
        (429, 503, ""),
        (500, 503, "nobody holds it, and it ends by itself"),
    ],
)
def test_what_the_provider_refuses_is_answered_by_what_helps(shop, caller, status, answered, words):
    shop.server.fail(status)
    answer = caller.post("/leases", body(shop))
    assert answer.status_code == answered
    assert words in answer.json()["detail"]
    assert ("Retry-After" in answer) == (answered == 503)


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"key": "x", "ttl_seconds": 59},
        {"key": "x", "ttl_seconds": 86_401},
        {"key": "x", "ttl_seconds": "600"},
        {"key": "x", "scopes": ["two words"]},
        {"key": "x", "scopes": ["s"] * 41},
        {"key": "x", "agent": "another-bot"},
        {"key": "x", "state": "open"},
    ],
)
def test_r39_nothing_else_is_taken_from_a_body(shop, caller, sent):
    answer = caller.post("/leases", sent)
    assert (answer.status_code, kind_of(answer)) == (422, "invalid")
    assert not Lease.objects.exists()


def test_a_suspended_agent_s_token_opens_nothing_here(shop, caller):
    made = caller.post("/leases", body(shop)).json()
    Agent.objects.update(state="suspended")
    assert caller.post("/leases", body(shop)).status_code == 401
    assert caller.delete(f"/leases/{made['id']}").status_code == 401


def test_leases_are_taken_at_a_rate_of_their_own(shop, caller, monkeypatch):
    monkeypatch.setattr(limits, "LENDING", limits.Rate(per_s=0.001, burst=1))
    assert caller.post("/leases", body(shop)).status_code == 201
    answer = caller.post("/leases", body(shop))
    assert (answer.status_code, kind_of(answer)) == (429, "too-many-requests")
    assert int(answer["Retry-After"]) > 0
    assert shop.living() == 1


def test_returning_has_a_rate_of_its_own_that_taking_does_not_use_up(shop, caller, monkeypatch):
    monkeypatch.setattr(limits, "LENDING", limits.Rate(per_s=0.001, burst=1))
    monkeypatch.setattr(limits, "RETURNING", limits.Rate(per_s=0.001, burst=1))
    path = f"/leases/{caller.post('/leases', body(shop)).json()['id']}"
    assert caller.post("/leases", body(shop)).status_code == 429
    assert caller.delete(path).json()["state"] == "returned"
    answer = caller.delete(path)
    assert (answer.status_code, kind_of(answer)) == (429, "too-many-requests")
    assert caller.get(path).status_code == 200


def test_a_list_is_read_to_its_end_and_narrowed(shop, caller):
    rows = [shop.take(now=shop.now + timedelta(seconds=n)).lease for n in range(4)]
    shop.give_back(rows[0])
    rows.append(shop.take(now=shop.now + timedelta(seconds=9)).lease)

    seen, cursor = [], ""
    while True:
        page = caller.get(f"/leases?limit=2&cursor={cursor}").json()
        seen += [row["id"] for row in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break

    assert seen == [str(row.pk) for row in reversed(rows)]
    returned = caller.get("/leases?state=returned").json()["items"]
    assert [row["id"] for row in returned] == [str(rows[0].pk)]
    assert len(caller.get(f"/leases?key={shop.key.name}").json()["items"]) == 5
    assert caller.get("/leases?key=another-key").json()["items"] == []
    assert caller.get("/leases?state=stolen").status_code == 400
    assert caller.get("/leases?cursor=made-up").status_code == 400


def test_one_lease_has_an_etag(shop, caller):
    made = caller.post("/leases", body(shop)).json()
    first = caller.get(f"/leases/{made['id']}")
    same = caller.get(f"/leases/{made['id']}", If_None_Match=first["ETag"])
    assert same.status_code == 304
    assert timezone.now() < datetime.fromisoformat(first.json()["expires_at"])
