"""Trigger and follow rotations by token; a dependent's own word counts, and nobody else's."""

from __future__ import annotations

import time
from datetime import timedelta
from threading import Thread

import pytest
from django.db import connections, transaction
from django.utils import timezone

from approvals import services as approvals
from approvals.models import Job, Request
from approvals.policy.rules import Rules
from keyvault.actions import defaults
from keyvault.api import limits, waiting
from keyvault.audit.models import Event
from keyvault.dependents import declared
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent, Health, Probe
from keyvault.inventory.models import Grant, Key
from keyvault.rotation.models import Delivery, Rotation
from keyvault.usage.models import LoadedVersion
from tests import races
from tests.keyvault.agents import builders
from tests.keyvault.api.test_requests import kind_of
from tests.keyvault.gateway.builders import until

pytestmark = pytest.mark.django_db
PATH = "/keys/ledger-reader/rotations"


@pytest.fixture
def key(house) -> Key:
    """A live key that alice owns and agents fetch."""
    return house.pull()


@pytest.fixture
def reader(house, key, bot):
    """alice's agent, which uses the key and reports what it has loaded."""
    builders.granted(house.cast, bot, key)
    with transaction.atomic():
        dependents.register(
            key=key,
            name=bot.name,
            agent_id=bot.pk,
            health=Health.REPORTS,
            now=house.now,
            actor=builders.TESTS,
        )
    return bot


def trigger(caller, *, status=201, **more):
    answer = caller.post(PATH, {"reason": "ci", "deploy_id": "d-1"} | more)
    assert answer.status_code == status, answer.content
    return answer


def running(house, caller) -> str:
    """Return the id of a rotation that was triggered and has given out its new version."""
    trigger(caller)
    house.work()
    return str(Rotation.objects.get().pk)


def test_a_person_triggers_a_rotation_and_follows_it_to_its_page(house, as_, key):
    alice = as_(house.cast.alice)

    made = trigger(alice, comment="Deployed at noon.").json()

    assert (made["request"]["kind"], made["request"]["state"]) == ("key.rotate", "approved")
    assert (made["request"]["reason"], made["rotation"]) == ("Deployed at noon.", None)
    house.work()
    [line] = alice.get(PATH).json()["items"]
    found = alice.get(f"/rotations/{line['id']}").json()
    assert set(found) - set(line) == {"waves", "dependents", "choices", "may_roll_back"}
    assert (found["key"], found["trigger"], found["deploy_id"]) == ("ledger-reader", "ci", "d-1")
    assert (found["old_version"], found["new_version"]) == (1, 2)
    assert (found["comment"], found["request_id"]) == ("Deployed at noon.", made["request"]["id"])
    assert (found["started_by"], found["page"]) == ("Alice", f"/rotations/{line['id']}/")


def test_what_a_deployment_asks_twice_is_one_rotation(house, as_, reader):
    alice = as_(house.cast.alice)
    first = trigger(alice).json()

    waiting_one = trigger(alice, status=200).json()
    house.work()
    running_one = trigger(alice, status=200)

    assert waiting_one["request"]["id"] == running_one.json()["request"]["id"]
    assert first["request"]["id"] == waiting_one["request"]["id"]
    rotation = Rotation.objects.get()
    assert running_one.json()["rotation"]["id"] == str(rotation.pk)
    assert running_one["Location"] == f"/api/v1/rotations/{rotation.pk}"
    assert Request.objects.filter(kind="key.rotate").count() == 1
    # Another holder is led to the rotation, and not to a request that is not its own.
    theirs = trigger(as_(reader), status=200).json()
    assert (theirs["request"], theirs["rotation"]["id"]) == (None, str(rotation.pk))


def test_another_deployment_is_told_what_stands_in_its_way(house, as_, reader):
    alice = as_(house.cast.alice)
    trigger(alice)

    asked = trigger(alice, status=409, deploy_id="d-2").json()
    house.work()
    begun = trigger(alice, status=409, deploy_id="d-2").json()

    assert asked["next_action"]["href"].startswith("/api/v1/requests/")
    rotation = Rotation.objects.get()
    assert begun["next_action"]["href"] == f"/api/v1/rotations/{rotation.pk}"
    assert alice.call("GET", begun["next_action"]["href"]).json()["deploy_id"] == "d-1"
    assert trigger(alice, status=409, deploy_id="").json()["type"].endswith(":conflict")


def test_an_incident_is_led_to_what_has_the_open_rotation_wait_less(house, as_, key):
    alice = as_(house.cast.alice)
    trigger(alice)
    house.work()

    refused = trigger(alice, status=409, reason="incident", deploy_id="").json()
    lead = refused["next_action"]
    alice.call(lead["method"], lead["href"], body=lead["body"], status=201)
    for _ in range(2):
        house.work()

    rotation = Rotation.objects.get()
    assert (rotation.terms["quiet_s"], rotation.terms["brownout_s"]) == (30, 0)
    again = trigger(alice, status=409, reason="incident", deploy_id="").json()
    assert again["next_action"]["href"] == f"/api/v1/rotations/{rotation.pk}", "nothing is left"


@pytest.mark.parametrize(
    "stands", [{"wants_back": True}, {"state": "rolling_back"}, {"state": "revoking"}]
)
def test_an_incident_is_led_to_follow_what_cannot_wait_less(house, as_, key, stands):
    alice = as_(house.cast.alice)
    trigger(alice)
    house.work()
    Rotation.objects.update(**stands)

    refused = trigger(alice, status=409, reason="incident", deploy_id="").json()

    follow = f"/api/v1/rotations/{Rotation.objects.get().pk}"
    assert refused["next_action"]["href"] == follow


@pytest.mark.django_db(transaction=True)
def test_two_jobs_of_one_deployment_at_once_are_one_rotation(house, as_, key):
    """Both have looked before either has asked: the second waits for the key and joins the first."""
    answers = []
    callers = [as_(house.cast.alice) for _ in range(2)]

    def ask(caller):
        answers.append(caller.post(PATH, {"reason": "ci", "deploy_id": "d-1"}))

    with transaction.atomic():
        Key.objects.select_for_update().get(pk=key.pk)
        first = races.Racer(lambda: ask(callers[0]))
        races.await_somebody_waiting()
        second = races.Racer(lambda: ask(callers[1]))
        races.await_somebody_waiting(2)
    first.finish()
    second.finish()

    assert sorted(answer.status_code for answer in answers) == [200, 201]
    assert len({answer.json()["request"]["id"] for answer in answers}) == 1
    assert Request.objects.filter(kind="key.rotate").count() == 1


def test_the_same_idempotency_key_is_answered_the_same(house, as_, key):
    alice, body = as_(house.cast.alice), {"reason": "manual"}

    first = alice.post(PATH, body, Idempotency_Key="k-1")
    again = alice.post(PATH, body, Idempotency_Key="k-1")

    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert again["Idempotent-Replay"] == "true"
    assert Request.objects.filter(kind="key.rotate").count() == 1


def test_a_rotation_is_a_kind_of_request_too(house, as_, key):
    body = {"kind": "key.rotate", "key": "ledger-reader", "reason": "It is time."}

    made = as_(house.cast.alice).post("/requests", body)
    again = as_(house.cast.alice).post("/requests", body)

    assert made.status_code == 201, made.content
    assert (again.status_code, kind_of(again)) == (409, "conflict")
    house.work()
    assert Rotation.objects.get().trigger == "manual"
    again = as_(house.cast.alice).post("/requests", body)
    assert (again.status_code, kind_of(again)) == (409, "conflict")


def test_an_agent_triggers_in_the_name_of_its_owner(house, as_, reader):
    made = trigger(as_(reader)).json()
    house.work()

    row = Request.objects.get(pk=made["request"]["id"])
    assert (row.requester, row.asked_by.id) == (house.cast.alice, str(reader.pk))
    assert Rotation.objects.get().started_by == "refund-bot"
    event = Event.objects.get(event="request.submitted", request_id=row.pk)
    assert (event.actor_label, event.on_behalf_of) == ("refund-bot", "alice")


def stricter(house, **changes):
    """Replace what policy says of rotations."""
    [usual] = [one for one in defaults.POLICIES if one["name"] == "Rotations"]
    rules = Rules.from_json({**usual, "auto": "", **changes})
    with transaction.atomic():
        approvals.save_policy(rules=rules, actor=defaults.SETUP, now=house.now)


def test_r20_a_trigger_waits_for_the_people_that_policy_names(house, as_, reader):
    stricter(house, stages=[{"name": "Security", "groups": ["security"]}])

    made = trigger(as_(reader)).json()
    house.work()
    again = trigger(as_(reader), status=200).json()

    assert made["request"]["state"] == again["request"]["state"] == "pending"
    assert (made["rotation"], again["rotation"]) == (None, None)
    assert not Rotation.objects.exists()
    house.say(house.cast.bob, Request.objects.get(pk=made["request"]["id"]))
    house.work()
    assert trigger(as_(reader), status=200).json()["rotation"]["state"] == "promoting"


def test_r20_a_trigger_that_policy_forbids_rotates_nothing(house, as_, reader):
    stricter(house, auto="deny")

    answer = trigger(as_(reader), status=403).json()
    house.work()

    assert answer["type"].endswith(":denied-by-policy")
    assert not Rotation.objects.exists()


def test_an_agent_triggers_no_key_that_it_does_not_use(house, as_, key, bot):
    refused = as_(bot).post(PATH, {"reason": "ci"})
    missing = as_(bot).post("/keys/somebody-elses/rotations", {"reason": "ci"})

    assert refused.status_code == missing.status_code == 404
    assert refused.json()["next_action"]["body"]["kind"] == "grant.give"
    assert not Request.objects.filter(kind="key.rotate").exists()


def test_an_agent_may_no_more_than_its_owner(house, as_, key):
    bot = builders.agent(
        house.cast, owner=house.cast.mallory, backup_owner=None, team=house.cast.security.group
    )
    builders.granted(house.cast, bot, key)

    answer = as_(bot).post(PATH, {"reason": "ci"})

    assert (answer.status_code, kind_of(answer)) == (403, "forbidden")
    assert "owner of the agent" in answer.json()["detail"]


def test_who_only_sees_a_key_has_it_not_rotated(house, as_, key):
    answer = as_(house.cast.dave).post(PATH, {"reason": "manual"})

    assert (answer.status_code, kind_of(answer)) == (403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": "cadence"},
        {"reason": "ci", "trigger": "ci"},
        {"reason": "ci", "deploy_id": "d" * 121},
        {"reason": "ci", "deploy_id": 42},
    ],
)
def test_a_trigger_of_another_form_is_refused_at_its_field(house, as_, key, body):
    answer = as_(house.cast.alice).post(PATH, body)

    assert (answer.status_code, kind_of(answer)) == (422, "invalid")
    assert answer.json()["errors"][0]["pointer"]


def test_a_rotation_shows_waves_dependents_and_what_proves_them(house, as_, reader, key):
    alice = as_(house.cast.alice)
    rotation_id = running(house, alice)

    found = alice.get(f"/rotations/{rotation_id}").json()

    assert found["state"] == "promoting"
    assert found["progress"] == {"done": 0, "of": 1}
    assert found["waves"] == [{"number": 0, "done": 0, "of": 1}]
    [part] = found["dependents"]
    assert (part["name"], part["agent"], part["health"]) == ("refund-bot", "refund-bot", "reports")
    assert (part["state"], part["has_new"], part["proof"]) == ("restarting", True, None)
    assert (found["choices"], found["may_roll_back"]) == ([], True)
    assert as_(house.cast.dave).get(f"/rotations/{rotation_id}").json()["may_roll_back"] is False


def test_an_agent_is_told_of_its_own_part_alone(house, as_, reader, key):
    other = builders.agent(house.cast, "other-bot")
    builders.granted(house.cast, other, key)
    rotation_id = running(house, as_(house.cast.alice))

    own = as_(reader).get(f"/rotations/{rotation_id}").json()
    theirs = as_(other).get(f"/rotations/{rotation_id}").json()

    assert [part["name"] for part in own["dependents"]] == ["refund-bot"]
    assert (theirs["dependents"], theirs["progress"]) == ([], {"done": 0, "of": 1})
    listed = as_(other).get("/keys/ledger-reader/dependents").json()
    assert listed == {"items": []}


def test_a_held_rotation_says_what_a_person_may_choose(house, as_, reader, key):
    alice = as_(house.cast.alice)
    rotation_id = running(house, alice)
    past = timezone.now() - timedelta(days=2)
    Rotation.objects.update(since=past)
    Job.objects.filter(subject_id=rotation_id, state="ready").update(due_at=past)
    house.work()

    found = alice.get(f"/rotations/{rotation_id}").json()

    assert (found["state"], found["held_from"], found["cause"]) == (
        "held",
        "promoting",
        "unconfirmed",
    )
    assert found["choices"] == ["extend", "go_on", "roll_back"]
    assert "refund-bot did not confirm" in found["sentence"]
    assert as_(reader).get(f"/rotations/{rotation_id}").json()["choices"] == []


def test_the_word_of_a_dependent_moves_the_rotation_on(house, as_, reader, key):
    rotation_id = running(house, as_(house.cast.alice))
    caller, path = as_(reader), f"/rotations/{rotation_id}/confirm"

    answer = caller.post(path, {"version": 2})

    assert answer.status_code == 200, answer.content
    assert answer.json()["dependents"][0]["proof"]["version"] == 2
    assert LoadedVersion.objects.filter(key_id=key.pk, agent_id=reader.pk, number=2).count() == 1
    house.work()
    moved = caller.get(f"/rotations/{rotation_id}").json()
    assert (moved["state"], moved["progress"]) == ("draining", {"done": 1, "of": 1})
    assert moved["dependents"][0]["state"] == "confirmed"


def test_a_dependent_that_is_ill_sends_the_rotation_back(house, as_, reader, key):
    rotation_id = running(house, as_(house.cast.alice))
    caller, path = as_(reader), f"/rotations/{rotation_id}/confirm"

    caller.post(path, {"version": 2, "healthy": False})
    house.work()
    assert caller.get(f"/rotations/{rotation_id}").json()["state"] == "rolling_back"
    caller.post(path, {"version": 1})
    house.work()

    ended = caller.get(f"/rotations/{rotation_id}").json()
    assert (ended["state"], ended["cause"]) == ("rolled_back", "failed")
    assert caller.post(path, {"version": 1}).status_code == 409


def test_only_the_dependent_itself_confirms(house, as_, reader, key):
    rotation_id = running(house, as_(house.cast.alice))
    path = f"/rotations/{rotation_id}/confirm"
    other = builders.agent(house.cast, "other-bot")

    for holder, status in ((house.cast.alice, 403), (house.cast.mallory, 404), (other, 404)):
        assert as_(holder).post(path, {"version": 2}).status_code == status
    builders.granted(house.cast, other, key)
    refused = as_(other).post(path, {"version": 2})

    assert (refused.status_code, kind_of(refused)) == (403, "forbidden")
    assert not LoadedVersion.objects.exists()
    house.work()
    assert Rotation.objects.get().state == "promoting"


def test_who_lost_its_access_confirms_nothing(house, as_, reader, key):
    rotation_id = running(house, as_(house.cast.alice))
    caller = as_(reader)
    over = timezone.now() - timedelta(seconds=1)
    Grant.objects.filter(agent=reader).update(starts_at=over - timedelta(days=1), ends_at=over)

    assert caller.post(f"/rotations/{rotation_id}/confirm", {"version": 2}).status_code == 404
    assert not LoadedVersion.objects.exists()


@pytest.mark.parametrize("health", [Health.READS, Health.BY_HAND])
def test_the_word_of_a_dependent_that_is_followed_otherwise_is_no_proof(
    house, as_, reader, key, health
):
    Dependent.objects.update(health=health)
    rotation_id = running(house, as_(house.cast.alice))

    answer = as_(reader).post(f"/rotations/{rotation_id}/confirm", {"version": 2})

    assert (answer.status_code, kind_of(answer)) == (409, "conflict")
    assert not LoadedVersion.objects.exists()


def test_nothing_is_confirmed_before_it_was_given(house, as_, reader, key):
    rotation_id = running(house, as_(house.cast.alice))
    Delivery.objects.update(has_new=False)
    path = f"/rotations/{rotation_id}/confirm"

    assert as_(reader).post(path, {"version": 2}).status_code == 409
    assert as_(reader).post(path, {"version": 3}).status_code == 409
    assert as_(reader).post(path, {"version": 1}).status_code == 200


def test_rotations_of_a_key_come_in_pages(house, as_, key):
    alice, seen, cursor = as_(house.cast.alice), [], ""
    running(house, alice)
    first = Rotation.objects.get()
    for number in range(1, 5):
        at = first.created_at - timedelta(days=(number + 1) // 2)
        fields = {"state": "completed", "ended_at": at, "created_at": at, "since": at}
        facts = {name: getattr(first, name) for name in ("request_id", "trigger", "started_by")}
        Rotation.objects.create(key=key, **facts, **fields)

    while cursor is not None:
        body = alice.get(f"{PATH}?limit=2" + (f"&cursor={cursor}" if cursor else "")).json()
        seen += [row["id"] for row in body["items"]]
        cursor = body["next_cursor"]

    assert seen == [str(pk) for pk in Rotation.objects.values_list("pk", flat=True)]
    assert len(seen) == len(set(seen)) == 5
    assert alice.get(f"{PATH}?cursor=x").status_code == 400


def test_an_etag_holds_until_something_changes(house, as_, reader, key):
    alice = as_(house.cast.alice)
    path = f"/rotations/{running(house, alice)}"
    tag = alice.get(path)["ETag"]

    assert alice.get(path, If_None_Match=tag).status_code == 304
    as_(reader).post(f"{path}/confirm", {"version": 1})
    told = alice.get(path, If_None_Match=tag)
    assert told.status_code == 200
    as_(reader).post(f"{path}/confirm", {"version": 1})
    assert alice.get(path, If_None_Match=told["ETag"]).status_code == 304


@pytest.mark.django_db(transaction=True)
def test_a_waiting_call_is_answered_when_the_rotation_moves(house, as_, reader, key, monkeypatch):
    monkeypatch.setattr(waiting, "STEP_S", 0.05)
    alice = as_(house.cast.alice)
    path = f"/rotations/{running(house, alice)}"
    answers = []

    def wait():
        try:
            answers.append(alice.get(f"{path}?wait=20").json())
        finally:
            connections.close_all()

    thread, begun = Thread(target=wait), time.monotonic()
    thread.start()
    until(lambda: waiting.room._inside)  # It has read what there is, and waits for news.
    as_(reader).post(f"{path}/confirm", {"version": 2})
    house.work()
    thread.join(30)

    assert time.monotonic() - begun < 15
    assert answers[0]["dependents"][0]["proof"]["version"] == 2


@pytest.mark.django_db(transaction=True)
def test_a_trigger_that_waits_is_answered_with_its_rotation(house, as_, key, monkeypatch):
    monkeypatch.setattr(waiting, "STEP_S", 0.05)
    answers = []

    def ask():
        try:
            caller = as_(house.cast.alice)
            more = {"Idempotency_Key": "k-1"}
            answers.append(caller.post(f"{PATH}?wait=20", {"reason": "manual"}, **more))
        finally:
            connections.close_all()

    thread = Thread(target=ask)
    thread.start()
    end = time.monotonic() + 20
    while not Rotation.objects.exists() and time.monotonic() < end:
        house.work()
    thread.join(30)

    [made] = answers
    assert made.status_code == 201, made.content
    assert made.json()["rotation"]["id"] == str(Rotation.objects.get().pk)
    again = as_(house.cast.alice).post(PATH, {"reason": "manual"}, Idempotency_Key="k-1")
    assert again.content == made.content


# --- dependents as code -------------------------------------------------------------------

DEPENDENTS = "/keys/ledger-reader/dependents"


def put(caller, *rows, status=200):
    answer = caller.call("PUT", f"/api/v1{DEPENDENTS}", {"dependents": list(rows)})
    assert answer.status_code == status, answer.content
    return answer.json()


def entry(name="refund-bot", **more):
    usual = {"name": name, "agent": name, "health": "reports", "wave": 1, "cache_s": 60}
    return usual | more


HAND = {"name": "Batch host", "health": "by_hand"}


def test_a_list_that_is_put_is_the_list_that_is_read(house, as_, key, bot):
    alice = as_(house.cast.alice)

    made = put(alice, entry(), HAND)

    read = alice.get(DEPENDENTS)
    assert read.json() == made
    assert [(row["name"], row["agent"], row["wave"]) for row in made["items"]] == [
        ("Batch host", None, 0),
        ("refund-bot", "refund-bot", 1),
    ]
    assert alice.get(DEPENDENTS, If_None_Match=read["ETag"]).status_code == 304
    assert Event.objects.filter(event="dependent.registered").count() == 2
    put(alice, entry(), HAND)
    assert Event.objects.filter(event__startswith="dependent.").count() == 2, "nothing changed"


def test_what_others_declare_after_a_list_was_put_is_not_among_what_it_answers(
    house, as_, key, bot, monkeypatch
):
    alice, plain = as_(house.cast.alice), declared.replace

    def slow(**more):
        made = plain(**more)
        with transaction.atomic():
            dependents.register(
                key=key,
                name="Theirs",
                agent_id=None,
                health=Health.BY_HAND,
                now=house.now,
                actor=builders.TESTS,
            )
        return made

    monkeypatch.setattr(declared, "replace", slow)
    answer = alice.call("PUT", f"/api/v1{DEPENDENTS}", {"dependents": [HAND]})
    monkeypatch.undo()

    assert [row["name"] for row in answer.json()["items"]] == ["Batch host"]
    body = {"dependents": [HAND, entry()]}
    refused = alice.call("PUT", f"/api/v1{DEPENDENTS}", body, If_Match=answer["ETag"])
    assert (refused.status_code, kind_of(refused)) == (412, "changed")
    names = Dependent.objects.filter(ended_at=None).values_list("name", flat=True)
    assert sorted(names) == ["Batch host", "Theirs"]


def test_what_changes_is_registered_anew_and_what_is_left_out_is_ended(house, as_, key, bot):
    alice = as_(house.cast.alice)
    put(alice, entry(), HAND)

    put(alice, entry(wave=0))

    alive = Dependent.objects.get(ended_at=None)
    assert (alive.name, alive.wave) == ("refund-bot", 0)
    ended = Event.objects.filter(event="dependent.ended").values_list("fields__dependent")
    assert sorted(name for (name,) in ended) == ["Batch host", "refund-bot"]


def test_who_is_asked_over_http_is_declared_and_its_address_is_a_request(house, as_, key, bot):
    alice = as_(house.cast.alice)
    made = put(alice, {"name": "Orders", "health": "probed"})
    assert (made["items"][0]["health"], made["items"][0]["probe"]) == ("probed", None)
    body = {
        "kind": "probe.add",
        "key": key.name,
        "name": "Orders",
        "address": "https://orders.example.com/health",
        "reason": "It says there which version it has.",
    }

    asked = alice.post("/requests", body)
    assert asked.status_code == 201
    again = alice.post("/requests", body)
    assert (again.status_code, kind_of(again)) == (409, "conflict")
    plain = alice.post("/requests", body | {"address": "http://orders.example.com/"})
    assert (plain.status_code, kind_of(plain)) == (409, "conflict")
    house.say(house.cast.bob, Request.objects.get(kind="probe.add"))
    house.work()

    assert alice.get(DEPENDENTS).json()["items"][0]["probe"] == {
        "address": "https://orders.example.com/health",
        "answer": "",
        "version": None,
        "asked_at": None,
    }
    put(alice, {"name": "Orders", "health": "probed"})
    assert Probe.objects.filter(ended_at=None).count() == 1, "what is declared again stays asked"


def test_an_agent_has_nobody_asked_over_http(house, as_, reader, key):
    body = {"kind": "probe.add", "key": key.name, "name": "Orders", "address": "https://a.example/"}

    answer = as_(reader).post("/requests", body | {"reason": "I would like to."})

    assert (answer.status_code, kind_of(answer)) == (403, "people-only")


def test_a_running_rotation_goes_on_with_those_it_began_with(house, as_, reader, key):
    alice = as_(house.cast.alice)
    rotation_id = running(house, alice)

    put(alice, HAND)

    parts = alice.get(f"/rotations/{rotation_id}").json()["dependents"]
    assert [part["name"] for part in parts] == ["refund-bot"]
    as_(reader).post(f"/rotations/{rotation_id}/confirm", {"version": 2})
    house.work()
    assert Rotation.objects.get().state == "draining"


def test_who_was_discovered_becomes_registered(house, as_, key, bot):
    with transaction.atomic():
        dependents.register(
            key=key,
            name=bot.name,
            agent_id=bot.pk,
            health=Health.READS,
            is_discovered=True,
            now=house.now,
            actor=builders.TESTS,
        )
    alice = as_(house.cast.alice)
    assert alice.get(DEPENDENTS).json()["items"][0]["is_discovered"] is True

    made = put(alice, entry(health="reads", wave=0, cache_s=0))

    assert [row["is_discovered"] for row in made["items"]] == [False]


@pytest.mark.parametrize(
    ("rows", "pointer"),
    [
        ([entry(), entry()], "/dependents/1/name"),
        ([entry(), entry(name="Another", agent="refund-bot")], "/dependents/1/agent"),
        ([entry(agent="nobody-here")], "/dependents/0/agent"),
        ([entry(agent="")], "/dependents/0/health"),
        ([entry(name=" ")], "/dependents/0/name"),
        ([entry(wave=-1)], "/dependents/0/wave"),
        ([entry(health="prayer")], "/dependents/0/health"),
        ([entry(is_discovered=True)], "/dependents/0/is_discovered"),
    ],
)
def test_a_line_that_cannot_be_is_refused_at_its_field(house, as_, key, bot, rows, pointer):
    answer = put(as_(house.cast.alice), *rows, status=422)

    assert pointer in {fault["pointer"] for fault in answer["errors"]}
    assert not Dependent.objects.exists()


def test_r32_an_agent_that_the_caller_does_not_see_cannot_be_named(house, as_, key):
    builders.agent(
        house.cast,
        "their-bot",
        owner=house.cast.mallory,
        backup_owner=None,
        team=house.cast.security.group,
    )

    put(as_(house.cast.alice), entry("their-bot"), status=422)


def test_an_agent_changes_no_list(house, as_, reader):
    answer = put(as_(reader), status=403)

    assert answer["type"].endswith(":people-only")
    limits.buckets.clear()
    assert [row["name"] for row in as_(reader).get(DEPENDENTS).json()["items"]] == ["refund-bot"]


def test_a_revoked_key_has_no_dependents_to_declare(house, as_, key):
    Key.objects.update(state="revoked", revoked_at=timezone.now())

    assert put(as_(house.cast.alice), HAND, status=409)["type"].endswith(":conflict")
