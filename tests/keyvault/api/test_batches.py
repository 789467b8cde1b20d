"""Many keys by token: chosen by name or by filter, refused at their places, followed by figures."""

from __future__ import annotations

import time
from threading import Thread

import pytest
from django.db import connections

from approvals.models import Request
from keyvault.api import limits, waiting
from keyvault.audit.models import Event
from keyvault.inventory.models import Key
from keyvault.rotation import progress
from keyvault.rotation.models import BatchKey, Rotation, RotationBatch
from tests.keyvault.api.test_requests import kind_of
from tests.keyvault.gateway.builders import until

pytestmark = pytest.mark.django_db
PATH = "/rotations"


@pytest.fixture
def readers(house, settings) -> list[Key]:
    """Three live keys of alice's, of which two may be rotated at once."""
    settings.ROTATION_PER_CONNECTION = 2
    return [house.pull(name=f"reader-{number}") for number in range(3)]


def start(caller, *, status=201, **more):
    answer = caller.post(PATH, {"reason": "manual"} | more)
    assert answer.status_code == status, answer.content
    return answer


def names(keys):
    return [key.name for key in keys]


def test_keys_are_named_and_followed_to_their_end(house, as_, readers):
    alice = as_(house.cast.alice)

    made = start(alice, keys=names(readers), comment="The quarter is over.").json()

    assert (made["request"]["kind"], made["request"]["state"]) == ("key.rotate_many", "approved")
    assert made["batch"] is None
    house.work()
    [row] = RotationBatch.objects.all()
    answer = alice.get(f"{PATH}/batches/{row.pk}")
    told = answer.json()
    assert (told["comment"], told["trigger"], told["total"]) == (
        "The quarter is over.",
        "manual",
        3,
    )
    assert sum(told[name] for name in progress.STATES) == 3
    assert (told["running"], told["waiting"], told["is_over"]) == (2, 1, False)
    [limit] = told["limits"]
    assert (limit["connection"], limit["waiting"], limit["open"], limit["most"]) == (
        "orders",
        1,
        2,
        2,
    )
    assert told["page"] == f"/rotations/batches/{row.pk}/"
    same = alice.get(f"{PATH}/batches/{row.pk}", If_None_Match=answer["ETag"])
    assert same.status_code == 304
    Rotation.objects.filter(key__name="reader-0").update(state="held", held_from="promoting")
    assert alice.get(f"{PATH}/batches/{row.pk}").json()["held"] == 1


def test_a_filter_chooses_active_keys_of_the_caller(house, as_, readers):
    Key.objects.filter(name="reader-2").update(state="suspended")
    alice = as_(house.cast.alice)

    start(alice, filter={"connection": "orders"}, reason="incident")

    payload = Request.objects.get(kind="key.rotate_many").payload
    assert (len(payload["key_ids"]), payload["trigger"]) == (2, "incident")
    limits.buckets.clear()
    start(alice, filter={"connection": "elsewhere"}, status=409)
    start(alice, filter={"state": "live"}, status=422)


def test_a_narrowed_token_rotates_and_stops_the_keys_that_it_names(house, as_, readers):
    first, second, _ = readers
    narrowed = as_(house.cast.alice, keys=(first.name,))

    refused = start(narrowed, keys=[first.name, second.name], status=422)
    start(narrowed, filter={"connection": "orders"})

    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/keys/1"]
    payload = Request.objects.get(kind="key.rotate_many").payload
    assert payload["key_ids"] == [str(first.pk)]
    start(as_(house.cast.alice), keys=names(readers))
    house.work()
    own, others = sorted(RotationBatch.objects.all(), key=lambda row: row.keys.count())
    assert narrowed.get(f"{PATH}/batches/{own.pk}").status_code == 200
    assert narrowed.get(f"{PATH}/batches/{others.pk}").status_code == 404
    stop = narrowed.post(f"{PATH}/batches/{others.pk}/stop", {"reason": "Mine."})
    assert stop.status_code == 404


def test_what_is_not_active_is_counted_among_the_skipped(house, as_, readers, settings):
    settings.ROTATION_PER_CONNECTION = 3
    Key.objects.filter(name="reader-2").update(state="suspended")
    alice = as_(house.cast.alice)

    start(alice, keys=names(readers))
    house.work()

    told = alice.get(f"{PATH}/batches/{RotationBatch.objects.get().pk}").json()
    assert (told["total"], told["skipped"]) == (3, 1)
    assert told["skips"] == [{"cause": "ended", "sentence": "It is not active", "count": 1}]


def test_a_name_that_is_not_the_callers_is_refused_at_its_place(house, as_, readers):
    alice, mallory = as_(house.cast.alice), as_(house.cast.mallory)

    answer = start(alice, keys=[readers[0].name, "no-such-key"], status=422)
    hidden = start(mallory, keys=[readers[0].name, "no-such-key"], status=422)
    seen = start(as_(house.cast.dave), keys=[readers[0].name], status=422)

    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/keys/1"]
    assert {fault["detail"] for fault in hidden.json()["errors"]} == {
        "There is no key of this name that you may have rotated."
    }
    assert [fault["pointer"] for fault in hidden.json()["errors"]] == ["/keys/0", "/keys/1"]
    assert seen.json()["errors"][0]["pointer"] == "/keys/0"
    assert not Request.objects.filter(kind="key.rotate_many").exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"keys": []},
        {"keys": ["reader-0"], "filter": {}},
        {"keys": ["x"] * 1001},
        {"keys": ["reader-0"], "reason": "ci"},
        {"filter": {"owner": "bob"}},
    ],
)
def test_a_body_that_says_nothing_or_too_much_is_refused(house, as_, readers, body):
    answer = start(as_(house.cast.alice), **body, status=422)

    assert kind_of(answer) == "invalid"
    assert not BatchKey.objects.exists()


def test_a_thousand_names_fit_into_a_body(house, as_, readers):
    listed = [f"{'k' * 50}-{number:04}" for number in range(1000)]

    answer = start(as_(house.cast.alice), keys=listed, status=422)

    assert len(answer.json()["errors"]) == 1000


def test_an_agent_has_no_batch_rotated_and_follows_none(house, as_, readers, bot):
    answer = start(as_(bot), keys=[readers[0].name], status=403)
    start(as_(house.cast.alice), keys=names(readers))
    house.work()

    assert kind_of(answer) == "people-only"
    path = f"{PATH}/batches/{RotationBatch.objects.get().pk}"
    assert as_(bot).get(path).status_code == 403
    assert as_(house.cast.mallory).get(path).status_code == 404


def stop(caller, batch, *, status=200, reason="The vendor asked us to."):
    answer = caller.post(f"{PATH}/batches/{batch.pk}/stop", {"reason": reason})
    assert answer.status_code == status, answer.content
    return answer


def test_no_more_keys_are_begun_once_it_is_stopped(house, as_, readers):
    alice = as_(house.cast.alice)
    start(alice, keys=names(readers))
    house.work()
    [row] = RotationBatch.objects.all()

    told = stop(alice, row).json()

    assert (told["running"], told["waiting"], told["skipped"]) == (2, 0, 1)
    assert told["skips"][0]["cause"] == "stopped"
    assert (told["stopped_by"], told["stopped_for"]) == ("Alice", "The vendor asked us to.")
    event = Event.objects.get(event="rotation.batch_stopped")
    assert (event.fields["left"], event.fields["reason"]) == (1, "The vendor asked us to.")
    house.work()
    assert Rotation.objects.count() == 2
    assert kind_of(stop(alice, row, status=409)) == "conflict"


def test_only_who_may_stops_a_batch_and_says_why(house, as_, readers, bot):
    alice = as_(house.cast.alice)
    start(alice, keys=names(readers))
    house.work()
    [row] = RotationBatch.objects.all()

    stop(alice, row, reason=" ", status=422)
    for holder, status in (
        (house.cast.dave, 404),
        (house.cast.carol, 404),
        (house.cast.mallory, 404),
        (bot, 403),
    ):
        stop(as_(holder), row, status=status)

    assert progress.figures(row.pk).waiting == 1
    stop(as_(house.cast.frank), row)


@pytest.mark.django_db(transaction=True)
def test_a_call_that_waits_is_answered_with_its_batch_and_with_news(
    house, as_, readers, monkeypatch
):
    monkeypatch.setattr(waiting, "STEP_S", 0.05)
    answers = []

    def ask(method, path, *body):
        try:
            answers.append(getattr(as_(house.cast.alice), method)(f"{path}?wait=20", *body))
        finally:
            connections.close_all()

    thread = Thread(target=ask, args=("post", PATH, {"reason": "manual", "keys": names(readers)}))
    thread.start()
    end = time.monotonic() + 20
    while not RotationBatch.objects.exists() and time.monotonic() < end:
        house.work()
    thread.join(30)
    [made] = answers
    batch = made.json()["batch"]["id"]
    assert made["Location"] == f"/api/v1{PATH}/batches/{batch}"

    thread = Thread(target=ask, args=("get", f"{PATH}/batches/{batch}"))
    thread.start()
    until(lambda: waiting.room._inside)  # It has read what there is, and waits for news.
    Rotation.objects.filter(key__name="reader-0").update(state="held", held_from="promoting")
    thread.join(30)

    assert answers[1].json()["held"] == 1
