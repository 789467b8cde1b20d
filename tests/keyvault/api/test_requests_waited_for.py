"""Wait by token for what becomes of a request: answered in time, and nobody is kept waiting."""

from __future__ import annotations

import time

import pytest
from django.db import connection

from approvals.models import Request
from keyvault.agents.models import Agent
from keyvault.api import waiting
from keyvault.rooms import Room
from tests.keyvault.api.test_requests import creation

pytestmark = pytest.mark.django_db


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


def test_one_caller_has_as_many_places_as_each_may_and_never_all():
    room = Room(3, each=2)

    with room.place("a") as first, room.place("a") as second, room.place("a") as third:
        assert (first, second, third) == (True, True, False)
        with room.place("b") as other, room.place("c") as last:
            assert (other, last) == (True, False)
    with room.place("a") as first, room.place("a") as second:
        assert (first, second) == (True, True)


@pytest.mark.parametrize("wait", ["31", "-1", "x", "1.5"])
def test_nobody_waits_for_longer_than_thirty_seconds(house, as_, wait):
    made = as_(house.cast.alice).post("/requests", creation()).json()

    assert as_(house.cast.alice).get(f"/requests/{made['id']}?wait={wait}").status_code == 400


def test_time_that_is_over_answers_with_what_there_is():
    before = time.monotonic()

    assert waiting.until(lambda: 1, lambda _: False, whose="a", wait_s=0) == 1
    assert time.monotonic() - before < 15
