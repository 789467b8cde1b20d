"""Ask, follow, revise and withdraw by token, as a person and as an agent."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from django.db import connection

from approvals import selectors, services
from approvals.models import Request
from approvals.policy import eligibility
from approvals.selectors import history
from keyvault.agents.models import Agent
from keyvault.api import limits, waiting
from keyvault.api.waiting import Room
from keyvault.audit.models import Event
from keyvault.inventory.models import Grant, Key
from tests import cast as people
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db

ASKED = {
    "name": "ledger-reader",
    "connection": "orders",
    "environment": "dev",
    "team": "payments",
    "allowed_hosts": ["db.example.com"],
}


def creation(reason="The close needs it.", **changes):
    return {"kind": "key.create", "reason": reason, "declared": ASKED | changes}


def kind_of(answer) -> str:
    return answer.json()["type"].removeprefix("urn:keyvault:problem:")


def test_a_person_asks_for_a_key_and_finds_the_request(house, as_):
    alice = as_(house.cast.alice)

    made = alice.post("/requests", creation())

    assert made.status_code == 201, made.content
    found = alice.get(made["Location"].removeprefix("/api/v1")).json()
    assert found == made.json()
    assert (found["kind"], found["state"], found["progress"]) == (
        "key.create",
        "pending",
        {"have": 0, "need": 1},
    )
    assert [row["id"] for row in alice.get("/requests").json()["items"]] == [found["id"]]


def test_what_was_asked_by_token_is_approved_on_the_page_and_done(house, as_):
    made = as_(house.cast.alice).post("/requests", creation()).json()

    house.say(house.cast.bob, Request.objects.get(pk=made["id"]))
    house.work()

    found = as_(house.cast.alice).get(f"/requests/{made['id']}").json()
    assert (found["state"], found["outcome"]["facts"]["Version"]) == ("done", "v1")
    assert as_(house.cast.alice).get("/keys/ledger-reader").json()["state"] == "live"


def test_a_person_asks_to_revoke_and_to_reveal(house, as_):
    house.create()
    alice = as_(house.cast.alice)

    for kind in ("secret.reveal", "key.revoke"):
        body = {"kind": kind, "key": "ledger-reader", "reason": "It is time."}
        assert alice.post("/requests", body).status_code == 201
        again = alice.post("/requests", body)
        assert (again.status_code, kind_of(again)) == (409, "conflict")
        follow = again.json()["next_action"]["href"].removeprefix("/api/v1")
        assert alice.get(follow).json()["kind"] == kind


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"team": "security"}, "/declared/team"),
        ({"environment": "moon"}, "/declared/environment"),
        ({"connection": "nowhere"}, "/declared/connection"),
        ({"backup_owner": str(uuid4())}, "/declared/backup_owner"),
        ({"lifetime_days": 3650}, "/declared/lifetime_days"),
        ({"calendar": "0 9 * * 1"}, "/declared/calendar"),
        ({"calendar": "last 09:00", "cadence_days": 30}, "/declared/cadence_days"),
        ({"volume_per_day": "1000"}, "/declared/volume_per_day"),
        ({"external_input": 1}, "/declared/external_input"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused_at_its_field(house, as_, changes, pointer):
    answer = as_(house.cast.alice).post("/requests", creation(**changes))

    assert answer.status_code == 422, answer.content
    assert pointer in {fault["pointer"] for fault in answer.json()["errors"]}
    assert not Request.objects.exists()


FORBIDDEN = {
    "owner": "bob",
    "owner_id": str(uuid4()),
    "state": "live",
    "approved_by": "alice",
    "current_version": 1,
    "is_staff": True,
    "request_id": str(uuid4()),
    "requester": "bob",
    "asked_by": "nobody",
    "roles": {},
    "policy_version": 1,
    "plan_digest": "0" * 64,
}


@pytest.mark.parametrize("name", sorted(FORBIDDEN))
def test_r39_no_field_but_the_listed_ones_is_taken(house, as_, name):
    alice = as_(house.cast.alice)
    made = alice.post("/requests", creation(name="first-key")).json()
    inner, outer = creation(), creation()
    inner["declared"][name] = outer[name] = FORBIDDEN[name]

    assert alice.post("/requests", inner).status_code == 422
    assert alice.post("/requests", outer).status_code == 422
    for body in ({name: FORBIDDEN[name]}, {"declared": inner["declared"]}):
        assert alice.patch(f"/requests/{made['id']}", body).status_code == 422
    assert Request.objects.count() == Key.objects.count() == 1


def test_r39_every_column_of_request_and_key_is_refused(house, as_):
    alice = as_(house.cast.alice)
    listed = {"kind", "reason", "ticket", *ASKED, "title", "purpose", "backup_owner", "options"}
    listed |= {"volume_per_day", "external_input", "delivery_mode", "labels"}
    listed |= {"lifetime_days", "cadence_days", "calendar", "allowed_hosts"}
    columns = {field.attname for model in (Request, Key) for field in model._meta.concrete_fields}

    for name in sorted(columns - listed):
        limits.buckets.clear()
        body = creation()
        body["declared"] |= {name: "x"}
        assert alice.post("/requests", body).status_code == 422, name
        if name != "declared":
            assert alice.post("/requests", creation() | {name: "x"}).status_code == 422, name


def test_a_revision_clears_what_was_decided_and_only_the_asker_makes_it(house, as_):
    alice = as_(house.cast.alice)
    made = alice.post("/requests", creation(environment="prod", connection="everywhere")).json()
    house.say(house.cast.bob, Request.objects.get(pk=made["id"]))
    path = f"/requests/{made['id']}"
    assert alice.get(path).json()["progress"]["have"] == 1

    body = {
        "declared": ASKED | {"environment": "prod", "connection": "everywhere", "lifetime_days": 30}
    }
    assert as_(house.cast.bob).patch(path, body).status_code == 404
    revised = alice.patch(path, body)

    assert revised.status_code == 200, revised.content
    assert (revised.json()["revision"], revised.json()["progress"]["have"]) == (2, 0)
    reworded = alice.patch(path, {"reason": "Shorter, as asked."}).json()
    assert (reworded["revision"], reworded["reason"]) == (3, "Shorter, as asked.")
    assert reworded["plan"]["body"]["declared"]["lifetime_days"] == 30


def test_withdrawing_ends_a_request_once_and_repeats_quietly(house, as_):
    alice = as_(house.cast.alice)
    path = f"/requests/{alice.post('/requests', creation()).json()['id']}/withdraw"

    assert as_(house.cast.bob).post(path).status_code == 403
    assert as_(house.cast.mallory).post(path).status_code == 404
    for _ in range(2):
        answer = alice.post(path)
        assert (answer.status_code, answer.json()["state"]) == (200, "withdrawn")
    assert Event.objects.filter(event="request.withdrawn").count() == 1


@pytest.mark.parametrize(
    "query", ["ordering=x", "state=open", "kind=" + "k" * 61, "cursor=x", "limit=201"]
)
def test_r33_lists_of_requests_take_listed_filters_only(house, as_, query):
    assert as_(house.cast.alice).get(f"/requests?{query}").status_code == 400


def test_cursors_lead_through_every_request_once(house, as_):
    alice, seen, cursor = as_(house.cast.alice), [], ""
    for number in range(5):
        alice.post("/requests", creation(name=f"key-{number}"))

    while cursor is not None:
        body = alice.get("/requests?limit=2" + (f"&cursor={cursor}" if cursor else "")).json()
        seen += [row["subject"]["label"] for row in body["items"]]
        cursor = body["next_cursor"]

    assert seen == [f"key-{number}" for number in range(4, -1, -1)]


# --- agents ask ---------------------------------------------------------------------------


def test_an_agent_asks_in_the_name_of_its_owner(house, as_, bot):
    made = as_(bot).post("/requests", creation())

    assert made.status_code == 201, made.content
    row = Request.objects.get(pk=made.json()["id"])
    event = Event.objects.get(event="request.submitted", request_id=row.pk)
    assert (row.requester, row.asked_by.id) == (house.cast.alice, str(bot.pk))
    assert made.json()["asked_by"] == {"kind": "agent", "id": str(bot.pk), "label": "refund-bot"}
    assert (event.actor_kind, event.actor_label, event.on_behalf_of) == (
        "agent",
        "refund-bot",
        "alice",
    )


def test_a_refused_agent_sends_what_it_was_told_and_reads_after_the_approval(house, as_, bot):
    house.pull()
    caller = as_(bot)
    action = caller.get("/keys/ledger-reader").json()["next_action"]

    made = caller.call(
        action["method"], action["href"], action["body"] | {"reason": "It pays refunds."}
    )
    assert made.status_code == 201, made.content
    house.say(house.cast.bob, Request.objects.get(pk=made.json()["id"]))
    house.work()

    assert caller.get(f"/requests/{made.json()['id']}").json()["state"] == "done"
    assert caller.get("/keys/ledger-reader").json()["permissions"] == ["use"]
    assert Grant.objects.get(agent=bot).ends_at is not None


def test_an_agent_asks_for_itself_alone(house, as_, bot):
    house.pull()
    builders.agent(house.cast, "other-bot")

    for more in ({"agent": "other-bot"}, {"team": "payments"}):
        body = {"kind": "grant.give", "key": "ledger-reader", "reason": "x", "days": 5} | more
        assert kind_of(as_(bot).post("/requests", body)) == "forbidden"
    assert Request.objects.filter(kind="grant.give").count() == 0


def test_what_an_agents_owner_cannot_see_looks_missing_to_the_agent(house, as_):
    house.pull()
    bot = builders.agent(
        house.cast, owner=house.cast.mallory, backup_owner=None, team=house.cast.security.group
    )
    answers = []
    for name in ("ledger-reader", "absent-key"):
        body = {"kind": "grant.give", "key": name, "reason": "x"}
        answer = as_(bot).post("/requests", body)
        answers.append({k: v for k, v in answer.json().items() if k != "request_id"})

    assert answers[0] == answers[1]
    assert answers[0]["status"] == 404


@pytest.mark.parametrize("kind", ["secret.reveal", "key.revoke"])
def test_an_agent_can_neither_have_a_value_shown_nor_end_a_key_that_it_does_not_use(
    house, as_, bot, kind
):
    house.create()
    body = {"kind": kind, "key": "ledger-reader", "reason": "x"}

    assert as_(bot).post("/requests", body).status_code in {403, 404}
    assert not Request.objects.filter(kind=kind).exists()


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "key.revoke"},
        {"kind": "key.rotate"},
        {"kind": "secret.reveal"},
        {"kind": "grant.give", "agent": "refund-bot"},
        {"kind": "place.add", "connection": "orders", "name": "x"},
        {"kind": "place.remove", "name": "x"},
        {"kind": "probe.add", "name": "x", "address": "https://a.example/"},
        {"kind": "key.change", "volume_per_day": 2},
    ],
)
def test_a_narrowed_token_asks_about_no_other_key(house, as_, more):
    builders.agent(house.cast)
    key = house.pull()
    narrowed = as_(house.cast.alice, keys=("another-key",))

    answer = narrowed.post("/requests", more | {"key": key.name, "reason": "Over."})

    assert (answer.status_code, kind_of(answer)) == (404, "not-found"), answer.content
    assert not Request.objects.filter(kind=more["kind"]).exists()


def test_an_agent_sees_and_withdraws_its_own_requests_and_no_other_of_its_owner(house, as_, bot):
    own = as_(bot).post("/requests", creation()).json()["id"]
    alices = as_(house.cast.alice).post("/requests", creation(name="hers")).json()["id"]
    other = as_(builders.agent(house.cast, "other-bot"))

    assert [row["id"] for row in as_(bot).get("/requests").json()["items"]] == [own]
    for caller, request_id in ((as_(bot), alices), (other, own), (other, alices)):
        assert caller.get(f"/requests/{request_id}").status_code == 404
        assert caller.post(f"/requests/{request_id}/withdraw").status_code == 404
        assert caller.patch(f"/requests/{request_id}", {"reason": "x"}).status_code == 403
    assert as_(house.cast.alice).get(f"/requests/{own}").status_code == 200
    assert as_(bot).post(f"/requests/{own}/withdraw").json()["state"] == "withdrawn"
    assert Event.objects.get(event="request.withdrawn").actor_label == "refund-bot"
    last = selectors.access_request(house.cast.alice, own)
    assert history.timeline(last)[-1]["actor"].label == "refund-bot"


def test_the_page_says_that_an_agent_asked(house, as_, bot, client_for):
    made = as_(bot).post("/requests", creation()).json()

    for person in (house.cast.alice, house.cast.bob):
        page = client_for(person).get(made["page"]).content.decode()
        assert "refund-bot" in page
        assert "asked in that name" in page
    assert b"by the agent refund-bot" in client_for(house.cast.bob).get("/approvals/").content


def test_a_sixth_open_request_of_an_agent_is_refused(house, as_, bot):
    caller = as_(bot)
    made = [caller.post("/requests", creation(name=f"key-{n}")) for n in range(6)]

    assert [answer.status_code for answer in made] == [201] * 5 + [409]
    assert kind_of(made[-1]) == "too-many-open"
    assert not Key.objects.filter(name="key-5").exists()
    caller.post(f"/requests/{made[0].json()['id']}/withdraw")
    assert caller.post("/requests", creation(name="key-5")).status_code == 201


def test_an_agent_without_a_living_owner_asks_for_nobody(house, as_, bot):
    house.cast.alice.is_active = False
    house.cast.alice.save()

    assert kind_of(as_(bot).post("/requests", creation())) == "forbidden"


def test_r15_neither_the_owner_nor_whoever_answers_or_answered_for_the_agent_decides(house, as_):
    cast = house.cast
    bot = builders.agent(cast, owner=cast.alice, backup_owner=cast.bob)
    people.join(cast.alice, "security", now=cast.now - people.JOINED_AGO)
    row = Request.objects.get(pk=as_(bot).post("/requests", creation()).json()["id"])

    assert selectors.standing(row, cast.alice, now=cast.now).why_not == eligibility.SELF
    assert selectors.standing(row, cast.bob, now=cast.now).why_not == eligibility.BEHIND
    with pytest.raises(services.NotEligible):
        house.say(cast.bob, row)

    # Whoever could make it ask is not freed by handing it over, and whoever takes it is barred.
    assert selectors.standing(row, cast.carol, now=cast.now).may
    Agent.objects.filter(pk=bot.pk).update(backup_owner=cast.carol)
    for person in (cast.bob, cast.carol):
        assert selectors.standing(row, person, now=cast.now).why_not == eligibility.BEHIND


def test_r15_an_account_linked_to_the_agents_backup_decides_neither(house, as_):
    cast = house.cast
    bot = builders.agent(cast, backup_owner=cast.mallory)
    cast.mallory.email_key = cast.bob.email_key
    cast.mallory.save()
    row = Request.objects.get(pk=as_(bot).post("/requests", creation()).json()["id"])

    assert selectors.standing(row, cast.bob, now=cast.now).why_not == eligibility.BEHIND


def test_the_digest_covers_who_asked(house, as_, bot):
    row = Request.objects.get(pk=as_(bot).post("/requests", creation()).json()["id"])
    before = services.asking.material(row)

    row.asked_by_label = "another-bot"

    assert before["asked_by"] == {"kind": "agent", "id": str(bot.pk), "label": "refund-bot"}
    assert services.asking.material(row) != before


# --- waiting ------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch):
    """Let a sleeping call find what happens meanwhile, without a second of real time."""
    done: list[object] = []
    acts: list[object] = []

    def sleep(_seconds):
        assert connection.connection is None or connection.in_atomic_block
        done.append(1)
        if acts:
            acts.pop(0)()

    monkeypatch.setattr(waiting.time, "sleep", sleep)
    monkeypatch.setattr(waiting.connection, "close", lambda: done.append("closed"))
    return acts, done


def test_a_waiting_call_is_answered_when_the_request_changes(house, as_, steps):
    acts, done = steps
    alice = as_(house.cast.alice)
    made = alice.post("/requests", creation()).json()
    row = Request.objects.get(pk=made["id"])
    acts.extend([lambda: None, lambda: house.say(house.cast.bob, row)])

    found = alice.get(f"/requests/{made['id']}?wait=30")

    assert found.json()["state"] == "approved"
    assert "Retry-After" not in found
    assert done.count("closed") == done.count(1) == 2, "no connection is kept while it sleeps"


def test_a_waiting_call_with_an_old_etag_is_answered_at_once(house, as_, steps):
    alice = as_(house.cast.alice)
    made = alice.post("/requests", creation())
    path = f"/requests/{made.json()['id']}"
    house.say(house.cast.bob, Request.objects.get(pk=made.json()["id"]))

    found = alice.get(f"{path}?wait=30", If_None_Match=made["ETag"])

    assert found.json()["state"] == "approved"
    assert steps[1] == []
    assert alice.get(path, If_None_Match=found["ETag"]).status_code == 304


def test_a_token_that_ends_while_it_waits_gets_nothing(house, as_, steps, bot):
    caller = as_(bot)
    made = caller.post("/requests", creation()).json()
    steps[0].append(lambda: Agent.objects.filter(pk=bot.pk).update(state="suspended"))

    assert caller.get(f"/requests/{made['id']}?wait=30").status_code == 401


def test_when_all_places_are_taken_a_call_is_answered_at_once(house, as_, steps, monkeypatch):
    monkeypatch.setattr(waiting, "room", Room(places=0))
    alice = as_(house.cast.alice)
    made = alice.post("/requests", creation()).json()

    found = alice.get(f"/requests/{made['id']}?wait=30")

    assert (found.status_code, found["Retry-After"]) == (200, "5")
    assert steps[1] == []


def test_one_caller_has_one_place_and_gives_it_back():
    room = Room(places=2)

    with room.place("a") as first, room.place("a") as second, room.place("b") as third:
        assert (first, second, third) == (True, False, True)
        with room.place("c") as fourth:
            assert not fourth
    with room.place("a") as again:
        assert again


@pytest.mark.parametrize("wait", ["31", "-1", "x", "1.5"])
def test_nobody_waits_for_longer_than_thirty_seconds(house, as_, wait):
    made = as_(house.cast.alice).post("/requests", creation()).json()

    assert as_(house.cast.alice).get(f"/requests/{made['id']}?wait={wait}").status_code == 400


def test_time_that_is_over_answers_with_what_there_is():
    before = time.monotonic()

    assert waiting.until(lambda: 1, lambda _: False, whose="a", wait_s=0) == 1
    assert time.monotonic() - before < 15
