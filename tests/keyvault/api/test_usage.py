"""Usage by token: batches are taken event by event, and each caller reads what it may know."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from keyvault.api import bodies, limits
from keyvault.api.limits import Rate
from keyvault.inventory import grants
from keyvault.usage.models import UsageEvent, UsageHour
from tests.keyvault.agents import builders
from tests.keyvault.inventory import builders as keys
from tests.keyvault.usage.building import used

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(cast):
    return keys.live(cast)


@pytest.fixture
def user(cast, bot, key):
    """Return alice's agent, which may use the key."""
    builders.granted(cast, bot, key)
    return bot


def _event(now, **more):
    return {"key": "ledger-reader", "at": now.isoformat(), **more}


def _kind(answer) -> str:
    return answer.json()["type"].rpartition(":")[2]


def test_an_agent_reports_and_each_event_is_judged_alone(user, as_, now):
    events = [
        _event(now, host="DB.example.com.", count=3, version=1),
        _event(now, key="no-such-key"),
        _event(now - timedelta(hours=25)),
        _event(now, count=0),
        _event(now, version=0),
        _event(now, host="https://db.example.com/"),
        {"key": "ledger-reader", "at": now.replace(tzinfo=None).isoformat()},
        _event(now),
    ]

    answer = as_(user).post("/usage", {"events": events})

    assert answer.status_code == 200, answer.content
    assert answer.json()["accepted"] == 2
    assert [(one["index"], one["code"]) for one in answer.json()["refused"]] == [
        (1, "key"),
        (2, "at"),
        (3, "count"),
        (4, "version"),
        (5, "host"),
        (6, "at"),
    ]
    assert all(one["detail"].endswith(".") for one in answer.json()["refused"])
    kept = UsageEvent.objects.get(count=3)
    assert (kept.agent, kept.host, kept.number) == (user, "db.example.com", 1)
    assert sum(UsageHour.objects.values_list("count", flat=True)) == 4


def test_a_person_reports_in_the_own_name(cast, key, as_, now):
    assert as_(cast.alice).post("/usage", {"events": [_event(now)]}).json()["accepted"] == 1

    assert UsageEvent.objects.get().user == cast.alice


def test_a_token_that_names_keys_reports_those_alone(cast, user, as_, now):
    other = keys.live(cast, name="other-key")
    builders.granted(cast, user, other)
    batch = {"events": [_event(now), _event(now, key="other-key")]}

    narrow = as_(user, keys=["other-key"]).post("/usage", batch).json()
    wide = as_(user).post("/usage", batch).json()

    assert (narrow["accepted"], narrow["refused"][0]["index"]) == (1, 0)
    assert narrow["refused"][0]["detail"].startswith("There is no key of this name")
    assert wide["accepted"] == 2


def test_whoever_goes_on_using_a_value_may_still_say_so(user, as_, now):
    with transaction.atomic():
        grants.end_grant(grant=user.grants.get(), actor=builders.TESTS, now=now)

    caller = as_(user)
    assert caller.post("/usage", {"events": [_event(now)]}).json()["accepted"] == 1
    assert caller.get("/keys/ledger-reader/usage").status_code == 404


def test_a_thousand_full_events_fit_and_one_more_is_refused_whole(user, as_, now):
    event = _event(now, host="h" * 60 + ".example.com", count=1000, version=12)

    assert as_(user).post("/usage", {"events": [event] * 1000}).json()["accepted"] == 1000
    refused = as_(user).post("/usage", {"events": [event] * 1001})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/events")
    assert UsageEvent.objects.count() == 1000


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"events": None},
        {"events": {}},
        {"events": [None]},
        {"events": [{}]},
        {"events": [{"key": "a"}]},
        {"events": [{"key": "a", "at": "yesterday"}]},
        {"events": [{"key": "a", "at": 1764150000}]},
        {"events": [{"key": "a", "at": "1764150000"}]},
        {"events": [{"key": "a", "at": "1764150000.5"}]},
        {"events": [{"key": 1, "at": "2026-11-26T10:00:00Z"}]},
        {"events": [{"key": "a", "at": "2026-11-26T10:00:00Z", "count": "1"}]},
        {"events": [{"key": "a", "at": "2026-11-26T10:00:00Z", "agent": "other-bot"}]},
        {"events": [], "principal": "alice"},
    ],
)
def test_r39_what_is_no_batch_is_refused_whole(user, as_, body):
    answer = as_(user).post("/usage", body)

    assert (answer.status_code, _kind(answer)) == (422, "invalid")
    assert not UsageHour.objects.exists()


def test_an_empty_batch_is_taken(user, as_):
    assert as_(user).post("/usage", {"events": []}).json() == {"accepted": 0, "refused": []}


def test_a_batch_that_is_sent_again_under_its_key_is_counted_once(user, as_, now):
    batch = {"events": [_event(now, count=5)]}

    first, again = (as_(user).post("/usage", batch, Idempotency_Key="batch-1") for _ in range(2))
    other = as_(user).post("/usage", {"events": [_event(now)]}, Idempotency_Key="batch-1")

    assert (again.content, again["Idempotent-Replay"]) == (first.content, "true")
    assert _kind(other) == "key-reused"
    assert UsageHour.objects.get().count == 5


def test_reports_have_a_rate_of_their_own(user, as_, now, monkeypatch):
    monkeypatch.setattr(limits, "ASKING", Rate(per_s=0.1, burst=1))
    monkeypatch.setattr(limits, "REPORTING", Rate(per_s=0.1, burst=3))
    caller, empty = as_(user), {"events": []}

    assert [caller.post("/usage", empty).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert int(caller.post("/usage", empty)["Retry-After"]) >= 1
    asked = {"kind": "key.revoke", "key": "no-such-key", "reason": "x"}
    assert [caller.post("/requests", asked).status_code for _ in range(2)] == [404, 429]


def test_r43_a_batch_has_bounds_of_its_own_and_no_other_body_has_them(user, as_, now):
    size = bodies.USUAL.size + 1
    event = _event(now, host="h" * size)

    assert as_(user).post("/usage", {"events": [event]}).json()["refused"][0]["code"] == "host"
    assert as_(user).post("/requests", {"kind": "x" * size}).status_code == 413
    too_large = _event(now, host="h" * bodies.BATCH.size)
    assert as_(user).post("/usage", {"events": [too_large]}).status_code == 413
    many = b'{"events":[' + b"1," * bodies.BATCH.members + b"1]}"
    assert _kind(as_(user).post("/usage", many)) == "bad-body"


def test_whoever_may_see_a_key_reads_its_use(cast, user, key, as_, now):
    used(now, key_id=key.pk, agent=user, host="db.example.com", count=4)
    used(now - timedelta(days=3), key_id=key.pk, user=cast.alice, host="other.example.com")

    for person in (cast.alice, cast.carol, cast.dave, cast.frank):
        body = as_(person).get("/keys/ledger-reader/usage").json()
        assert (body["total"], body["users"], body["hosts"]) == (5, 2, 2)
        assert [(one["kind"], one["name"]) for one in body["by_user"]] == [
            ("agent", "refund-bot"),
            ("user", "Alice"),
        ]
    assert (body["reported_day"], body["read_day"]) == (4, 0)
    assert body["declared_per_day"] == key.volume_per_day
    assert (len(body["by_hour"]), body["by_hour"][-1]["count"]) == (24, 4)
    assert sum(one["count"] for one in body["by_day"]) == 5
    assert as_(cast.mallory).get("/keys/ledger-reader/usage").status_code == 404


def test_an_agent_is_told_of_its_own_use_alone(cast, user, key, as_, now):
    other = builders.agent(cast, "other-bot")
    used(now, key_id=key.pk, agent=user, host="db.example.com", count=4)
    used(now, key_id=key.pk, agent=other, host="secret-plan.example.com", count=9)
    unrelated = keys.live(cast, name="other-key")
    used(now, key_id=unrelated.pk, agent=user, host="elsewhere.example.com", count=7)

    answer = as_(user).get("/keys/ledger-reader/usage")

    assert answer.json()["total"] == 4
    assert [one["name"] for one in answer.json()["by_host"]] == ["db.example.com"]
    assert b"secret-plan" not in answer.content
    assert b"other-bot" not in answer.content


def test_the_span_is_chosen_in_days(cast, key, as_, now):
    used(now - timedelta(days=40), key_id=key.pk, user=cast.alice)
    alice = as_(cast.alice)

    assert alice.get("/keys/ledger-reader/usage").json()["total"] == 0
    assert alice.get("/keys/ledger-reader/usage").json()["last_at"] is not None
    assert alice.get("/keys/ledger-reader/usage?days=90").json()["total"] == 1


@pytest.mark.parametrize("query", ["days=0", "days=91", "days=x", "since=1", "days=1&days=2"])
def test_r33_a_span_that_is_none_is_refused(cast, key, as_, query):
    assert as_(cast.alice).get(f"/keys/ledger-reader/usage?{query}").status_code == 400


@pytest.mark.parametrize("name", ["%2e%2e", "No Such Name!", "x" * 300])
def test_r35_a_name_that_no_key_can_have_is_refused(cast, as_, name):
    assert as_(cast.alice).get(f"/keys/{name}/usage").status_code == 400
