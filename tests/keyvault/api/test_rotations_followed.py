"""Follow a rotation by token; a dependent's own word counts, and nobody else's."""

from __future__ import annotations

import time
from datetime import timedelta
from threading import Thread

import pytest
from django.db import connections
from django.utils import timezone

from approvals.models import Job
from keyvault.api import waiting
from keyvault.dependents.models import Dependent, Health
from keyvault.inventory.models import Grant
from keyvault.rotation.models import Delivery, Rotation
from keyvault.usage.models import LoadedVersion
from tests.keyvault.agents import builders
from tests.keyvault.api.conftest import ROTATIONS as PATH
from tests.keyvault.api.conftest import running
from tests.keyvault.api.test_requests import kind_of
from tests.keyvault.gateway.builders import until

pytestmark = pytest.mark.django_db


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
