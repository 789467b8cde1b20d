"""One act for one Idempotency-Key: repeated, raced, reused, refused and swept."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection, transaction

from approvals.models import Request
from approvals.ports import NotVisible
from keyvault.actions import create_key
from keyvault.api import commits, replays
from keyvault.api.models import ApiReplay
from tests.keyvault.agents import builders
from tests.keyvault.api.test_requests import creation, kind_of

KEYED = {"Idempotency_Key": "deploy-42"}


@pytest.mark.django_db
def test_a_repeated_call_gets_the_first_answer_to_the_byte_and_acts_once(house, as_):
    alice = as_(house.cast.alice)

    first, again = (alice.post("/requests", creation(), **KEYED) for _ in range(2))

    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert (again["Location"], again["ETag"]) == (first["Location"], first["ETag"])
    assert (again["Idempotent-Replay"], "Idempotent-Replay" in first) == ("true", False)
    assert Request.objects.count() == 1


@pytest.mark.django_db
def test_another_body_under_the_same_key_is_refused(house, as_):
    alice = as_(house.cast.alice)
    alice.post("/requests", creation(), **KEYED)

    other = alice.post("/requests", creation(name="other-key"), **KEYED)

    assert (other.status_code, kind_of(other)) == (422, "key-reused")


@pytest.mark.django_db
def test_a_key_belongs_to_one_caller_and_one_address(house, as_):
    alice, bot = as_(house.cast.alice), as_(builders.agent(house.cast))
    made = [
        caller.post("/requests", creation(name=name), **KEYED)
        for caller, name in ((alice, "key-a"), (bot, "key-b"))
    ]

    assert [answer.status_code for answer in made] == [201, 201]
    path = f"/requests/{made[0].json()['id']}/withdraw"
    assert alice.post(path, **KEYED).json()["state"] == "withdrawn"
    assert as_(house.cast.alice).post(path, **KEYED)["Idempotent-Replay"] == "true"


@pytest.mark.django_db
def test_a_refusal_is_not_kept_and_the_next_try_is_judged_anew(house, as_):
    alice = as_(house.cast.alice)
    house.ask()

    assert alice.post("/requests", creation(), **KEYED).status_code == 409
    assert not ApiReplay.objects.exists()
    assert alice.post("/requests", creation(name="free-key"), **KEYED).status_code == 201


@pytest.mark.django_db
def test_a_fault_of_ours_leaves_the_key_free(house, as_, monkeypatch):
    alice = as_(house.cast.alice)
    with monkeypatch.context() as patched:
        patched.setattr("keyvault.api.asking.create_key.ask", lambda **_: 1 / 0)
        assert alice.post("/requests", creation(), **KEYED).status_code == 500

    assert alice.post("/requests", creation(), **KEYED).status_code == 201


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "place", ["keyvault.api.shapes.request", "keyvault.api.requests.selectors.who_decides"]
)
def test_a_fault_after_the_commit_keeps_the_key_and_nobody_acts_twice(
    house, as_, monkeypatch, place
):
    alice = as_(house.cast.alice)
    with monkeypatch.context() as patched:
        patched.setattr(place, lambda *_, **__: 1 / 0)
        assert alice.post("/requests", creation(), **KEYED).status_code == 500
    row = Request.objects.get()

    again = alice.post("/requests", creation(), **KEYED)

    assert (again.status_code, kind_of(again)) == (409, "in-flight")
    assert Request.objects.get() == row


@pytest.mark.django_db(transaction=True)
def test_a_refusal_after_the_commit_keeps_the_key_too(house, as_, monkeypatch):
    alice = as_(house.cast.alice)
    path = f"/requests/{alice.post('/requests', creation()).json()['id']}/withdraw"

    def hidden(*_args):
        raise NotVisible("planted")

    with monkeypatch.context() as patched:
        patched.setattr("keyvault.api.requests.request_of", hidden)
        assert alice.post(path, **KEYED).status_code == 404

    assert Request.objects.get().state == "withdrawn"
    assert kind_of(alice.post(path, **KEYED)) == "in-flight"


@pytest.mark.django_db(transaction=True)
def test_a_fault_before_the_commit_leaves_the_key_free_although_it_had_written(
    house, as_, monkeypatch
):
    alice = as_(house.cast.alice)
    with monkeypatch.context() as patched:
        patched.setattr("approvals.services.states.record", lambda *_, **__: 1 / 0)
        assert alice.post("/requests", creation(), **KEYED).status_code == 500
    assert not Request.objects.exists()

    assert alice.post("/requests", creation(), **KEYED).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_when_nobody_knows_how_the_commit_ended_the_key_stays_taken(house, as_, monkeypatch):
    alice = as_(house.cast.alice)
    ask = create_key.ask

    def cut_off(**said):
        ask(**said)
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as patched:
        patched.setattr(commits.Commits, "_sign", lambda _: None)
        patched.setattr("keyvault.api.asking.create_key.ask", cut_off)
        assert alice.post("/requests", creation(), **KEYED).status_code == 503

    assert kind_of(alice.post("/requests", creation(), **KEYED)) == "in-flight"
    assert Request.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_what_the_server_has_rolled_back_leaves_the_key_free(house, as_, monkeypatch):
    alice = as_(house.cast.alice)

    def timed_out(**_said):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE keyvault_agent SET title = title")
            cursor.execute("SET LOCAL statement_timeout = 1")
            cursor.execute("SELECT pg_sleep(5)")

    with monkeypatch.context() as patched:
        patched.setattr("keyvault.api.asking.create_key.ask", timed_out)
        assert alice.post("/requests", creation(), **KEYED).status_code == 503

    assert alice.post("/requests", creation(), **KEYED).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_a_block_is_known_by_what_it_has_committed(cast):
    def write():
        Session.objects.create(session_key="s", session_data="", expire_date=cast.now)

    with commits.watched() as seen:
        assert not Session.objects.exists()
    assert (seen.has_written, seen.has_committed) == (False, False)
    with commits.watched() as seen, transaction.atomic():
        write()
        transaction.set_rollback(True)
    assert (seen.has_written, seen.has_committed) == (True, False)
    with commits.watched() as seen, transaction.atomic():
        write()
        assert not seen.has_committed
    assert seen.has_committed
    with commits.watched() as seen:
        Session.objects.all().delete()
    assert seen.has_committed


@pytest.mark.django_db
def test_a_call_whose_first_is_under_way_is_told_to_wait_and_later_to_look(house, as_):
    alice = as_(house.cast.alice)
    alice.post("/requests", creation(), **KEYED)
    ApiReplay.objects.update(status=None, answer="")

    waits = alice.post("/requests", creation(), **KEYED)
    assert (waits.status_code, kind_of(waits), waits["Retry-After"]) == (409, "in-flight", "1")
    ApiReplay.objects.update(created_at=house.now - replays.PROMPT * 2)
    lost = alice.post("/requests", creation(), **KEYED)
    assert (lost.status_code, kind_of(lost)) == (409, "in-flight")
    assert "Retry-After" not in lost


@pytest.mark.django_db
def test_answers_are_kept_for_a_day_and_swept_by_whoever_comes_next(house, as_):
    alice = as_(house.cast.alice)
    alice.post("/requests", creation(), Idempotency_Key="old")
    ApiReplay.objects.update(created_at=house.now - timedelta(hours=25))

    alice.post("/requests", creation(name="new-key"), Idempotency_Key="new")

    assert [row.key for row in ApiReplay.objects.all()] == ["new"]


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "\x7f", "schlüssel"])
def test_a_key_of_another_form_is_refused(house, as_, key):
    answer = as_(house.cast.alice).post("/requests", creation(), Idempotency_Key=key)

    assert answer.status_code == 400
    assert not Request.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_twelve_calls_at_once_exactly_one_acts(house, as_):
    callers = [as_(house.cast.alice) for _ in range(12)]
    barrier, answers = threading.Barrier(12), []

    def send(caller):
        barrier.wait()
        answers.append(caller.post("/requests", creation(), **KEYED))
        connection.close()

    run(send, callers)

    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {201, 409}
    assert Request.objects.count() == 1
    made = {answer.content for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    assert {kind_of(answer) for answer in answers if answer.status_code == 409} <= {"in-flight"}


@pytest.mark.django_db(transaction=True)
def test_of_twelve_asks_of_an_agent_at_once_five_are_taken(house, as_):
    bot = builders.agent(house.cast)
    callers = [(as_(bot), f"key-{number}") for number in range(12)]
    barrier, answers = threading.Barrier(12), []

    def send(pair):
        caller, name = pair
        barrier.wait()
        answers.append(caller.post("/requests", creation(name=name)))
        connection.close()

    run(send, callers)

    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [409] * 7
    assert {kind_of(one) for one in answers if one.status_code == 409} == {"too-many-open"}
    assert Request.objects.count() == 5


def run(send, callers):
    threads = [threading.Thread(target=send, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
