"""Trigger rotations by token: what is asked twice, what stands in the way, and who may."""

from __future__ import annotations

import pytest
from django.db import transaction

from approvals import services as approvals
from approvals.models import Request
from approvals.policy.rules import Rules
from keyvault.actions import defaults
from keyvault.audit.models import Event
from keyvault.inventory.models import Key
from keyvault.rotation.models import Rotation
from tests import races
from tests.keyvault.agents import builders
from tests.keyvault.api.conftest import ROTATIONS as PATH
from tests.keyvault.api.conftest import trigger
from tests.keyvault.api.test_requests import kind_of

pytestmark = pytest.mark.django_db


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
