"""Titles, labels and declared use by token: what was seen is named, and what changed since is refused."""

from __future__ import annotations

import pytest

from approvals.models import Request
from approvals.policy import matching
from keyvault.actions import change_key
from keyvault.api import limits
from keyvault.audit.models import Event
from keyvault.dependents.models import Dependent
from keyvault.inventory.models import Key
from tests.keyvault.agents import builders
from tests.keyvault.api.test_requests import kind_of
from tests.races import Racer

pytestmark = pytest.mark.django_db
HERE, THERE = "ledger-reader", "orders-reader"
LABELS, CHANGES = f"/keys/{HERE}/labels", "/changes"
WHY = "As in the file."


@pytest.fixture(autouse=True)
def _many_calls():
    limits.buckets.clear()


@pytest.fixture
def readers(house) -> list[Key]:
    return [house.pull(name=name) for name in (HERE, THERE)]


@pytest.fixture
def alice(house, as_, readers):
    return as_(house.cast.alice)


def put(caller, *labels, status=202, reason=WHY, **headers):
    body = {"labels": list(labels), "reason": reason}
    answer = caller.call("PUT", f"/api/v1{LABELS}", body, **headers)
    assert answer.status_code == status, answer.content
    return answer


def change(caller, *rows, status=201):
    answer = caller.post(CHANGES, {"keys": list(rows), "reason": WHY})
    assert answer.status_code == status, answer.content
    return answer


def wants(name=HERE, **more):
    return {"key": name, "volume_per_day": 77} | more


# --- labels ---------------------------------------------------------------------------------


def test_labels_are_asked_for_and_hold_once_they_are_approved(house, alice):
    asked = put(alice, "Billing", "ai", "ai")

    told = asked.json()
    assert told["labels"] == [], "as they are until somebody agrees"
    assert (told["request"]["kind"], told["request"]["state"]) == ("key.change", "pending")
    assert asked["Location"] == f"/api/v1/requests/{told['request']['id']}"
    assert asked["ETag"] == alice.get(LABELS)["ETag"]
    house.say(house.cast.bob, Request.objects.get(kind="key.change"))
    house.work()
    assert alice.get(LABELS).json() == {"labels": ["ai", "billing"]}
    assert Event.objects.get(event="key.changed").fields == {"fields": ["labels"]}
    listed = alice.get("/keys?label=billing").json()["items"]
    assert [row["name"] for row in listed] == [HERE]


def test_labels_that_hold_already_ask_for_nothing(alice):
    answer = put(alice, status=200)

    assert answer.json() == {"labels": [], "request": None}
    assert not Request.objects.filter(kind="key.change").exists()


def test_the_same_labels_again_lead_to_the_request_that_waits(alice):
    first, second = put(alice, "ai").json(), put(alice, "ai").json()

    assert first["request"]["id"] == second["request"]["id"]
    other = put(alice, "other", status=409)
    assert kind_of(other) == "conflict"
    assert other.json()["next_action"]["href"].endswith(first["request"]["id"])


def test_labels_that_changed_since_are_not_written_over(house, alice):
    seen = alice.get(LABELS)["ETag"]
    Key.objects.filter(name=HERE).update(labels=["theirs"])

    refused = put(alice, "mine", status=412, If_Match=seen)

    assert kind_of(refused) == "changed"
    assert not Request.objects.filter(kind="key.change").exists()
    put(alice, "mine", If_Match=f"{seen}, W/{alice.get(LABELS)['ETag']}")
    put(alice, "mine", If_Match="*")


def test_a_label_that_no_key_can_have_is_refused(alice):
    assert kind_of(put(alice, "no label!", status=400)) == "bad-name"
    put(alice, *[f"l{number}" for number in range(21)], status=422)
    put(alice, " ".join(f"l{number}" for number in range(21)), status=400)
    put(alice, "ai", status=422, reason="")


def test_labels_are_asked_for_as_seldom_as_every_other_act(alice, monkeypatch):
    # Each of them is a request that people have to read.
    monkeypatch.setattr(limits, "ASKING", limits.Rate(per_s=0.001, burst=2))
    body = {"labels": [], "reason": WHY}

    answers = [alice.call("PUT", f"/api/v1{LABELS}", body).status_code for _ in range(3)]

    assert answers == [200, 200, 429]


def test_an_agent_asks_for_labels_in_its_owners_name(house, as_, readers, bot):
    builders.granted(house.cast, bot, readers[0])
    caller = as_(bot)

    asked = put(caller, "ai").json()["request"]

    assert (asked["requester"]["name"], asked["asked_by"]["label"]) == ("Alice", bot.name)
    # It is no secret of the agent's: its owner is led to it and asks nothing a second time.
    assert kind_of(put(as_(house.cast.alice), "ai", status=409)) == "conflict"


def test_an_agent_whose_owner_may_not_change_the_key_asks_nothing(house, as_, readers):
    other = builders.agent(house.cast, "their-bot", owner=house.cast.mallory, backup_owner=None)
    builders.granted(house.cast, other, readers[0])

    answer = put(as_(other), "ai", status=403)

    assert answer.json()["detail"] == f"The owner of the agent may not have {HERE} changed."


# --- titles ---------------------------------------------------------------------------------


def test_a_title_is_given_at_once_with_its_event(alice):
    answer = alice.patch(f"/keys/{HERE}", {"title": " Ledger "})

    assert (answer.status_code, answer.json()["title"]) == (200, "Ledger")
    assert answer["ETag"] == alice.get(f"/keys/{HERE}")["ETag"]
    assert Event.objects.get(event="key.renamed").fields == {"title": "Ledger"}


def test_a_key_that_changed_since_is_not_renamed(alice):
    seen = alice.get(f"/keys/{HERE}")["ETag"]
    alice.patch(f"/keys/{HERE}", {"title": "Theirs"})

    refused = alice.patch(f"/keys/{HERE}", {"title": "Mine"}, If_Match=seen)

    assert (refused.status_code, kind_of(refused)) == (412, "changed")
    assert Key.objects.get(name=HERE).title == "Theirs"


def test_what_others_change_after_a_rename_is_not_among_what_it_answers(alice, monkeypatch):
    plain = change_key.rename

    def slow(**more):
        made = plain(**more)
        Key.objects.filter(name=HERE).update(labels=["theirs"])
        return made

    monkeypatch.setattr(change_key, "rename", slow)

    answer = alice.patch(f"/keys/{HERE}", {"title": "Mine"})

    assert (answer.json()["title"], answer.json()["labels"]) == ("Mine", [])
    refused = change(alice, wants(etag=answer["ETag"]), status=412)
    assert refused.json()["errors"][0]["pointer"] == "/keys/0/etag"


def test_a_title_is_not_empty_and_not_an_agents(house, as_, alice, readers, bot):
    builders.granted(house.cast, bot, readers[0])

    assert alice.patch(f"/keys/{HERE}", {"title": " "}).status_code == 422
    for holder, status in ((house.cast.dave, 403), (house.cast.mallory, 404), (bot, 403)):
        answer = as_(holder).patch(f"/keys/{HERE}", {"title": "Mine"})
        assert answer.status_code == status, answer.content
    assert Key.objects.get(name=HERE).title == "Ledger reader"


# --- dependents -----------------------------------------------------------------------------


def test_dependents_that_changed_since_are_not_written_over(alice):
    path = f"/keys/{HERE}/dependents"
    seen = alice.get(path)["ETag"]

    def replaced(name, **headers):
        body = {"dependents": [{"name": name, "health": "by_hand"}]}
        return alice.call("PUT", f"/api/v1{path}", body, **headers)

    made = replaced("Theirs", If_Match=seen)
    refused = replaced("Mine", If_Match=seen)

    assert (made.status_code, refused.status_code, kind_of(refused)) == (200, 412, "changed")
    assert Dependent.objects.get(ended_at=None).name == "Theirs"
    assert replaced("Mine", If_Match=made["ETag"]).status_code == 200


def test_what_changes_by_itself_keeps_nobody_from_replacing_a_list(alice):
    path = f"/keys/{HERE}/dependents"
    body = {"dependents": [{"name": "Batch host", "health": "by_hand"}]}
    seen = alice.call("PUT", f"/api/v1{path}", body)["ETag"]
    Dependent.objects.update(push="there")

    news = alice.get(path, If_None_Match=seen)
    made = alice.call("PUT", f"/api/v1{path}", {"dependents": []}, If_Match=seen)
    late = alice.call("PUT", f"/api/v1{path}", {"dependents": []}, If_Match=news["ETag"])

    assert (news.status_code, made.status_code, late.status_code) == (200, 200, 412)
    assert news["ETag"] != seen


@pytest.mark.django_db(transaction=True)
def test_of_two_who_have_seen_the_same_one_replaces_it(alice):
    path = f"/keys/{HERE}/dependents"
    seen = alice.get(path)["ETag"]
    answers = {}

    def replace(name):
        body = {"dependents": [{"name": name, "health": "by_hand"}]}
        answers[name] = alice.call("PUT", f"/api/v1{path}", body, If_Match=seen).status_code

    racers = [Racer(lambda name=name: replace(name)) for name in ("One", "Another", "A third")]
    for racer in racers:
        racer.finish()

    assert sorted(answers.values()) == [200, 412, 412]
    [row] = Dependent.objects.filter(ended_at=None)
    assert answers[row.name] == 200


# --- one key and many -----------------------------------------------------------------------


def test_a_change_of_one_key_is_asked_like_every_other_act(house, alice):
    body = {
        "kind": "key.change",
        "key": HERE,
        "reason": WHY,
        "allowed_hosts": ["B.example", "a.example"],
    }

    made = alice.post("/requests", body)

    assert made.status_code == 201, made.content
    payload = Request.objects.get(kind="key.change").payload["use"]
    assert payload["allowed_hosts"] == ["a.example", "b.example"]
    assert payload["volume_per_day"] == 1000
    again = alice.post("/requests", body)
    assert again.json()["next_action"]["href"].endswith(made.json()["id"])
    assert (
        alice.post("/requests", {"kind": "key.change", "key": THERE, "reason": WHY}).status_code
        == 409
    )


def test_a_key_has_at_most_a_hundred_hosts_however_they_are_written(alice):
    text = " ".join(f"h{number}.example" for number in range(101))
    body = {"kind": "key.change", "key": HERE, "reason": WHY, "allowed_hosts": [text]}

    refused = alice.post("/requests", body)

    assert (refused.status_code, kind_of(refused)) == (400, "bad-name")
    assert not Request.objects.filter(kind="key.change").exists()


def test_many_keys_are_asked_for_by_one_request(house, alice):
    made = change(alice, wants(), wants(THERE, labels=["ai"])).json()

    assert (made["kind"], made["state"], made["subject"]["label"]) == (
        "key.change_many",
        "pending",
        "2 keys",
    )
    house.say(house.cast.bob, Request.objects.get(kind="key.change_many"))
    house.work()
    assert alice.get(f"/requests/{made['id']}").json()["state"] == "done"
    assert alice.get(f"/keys/{THERE}").json()["labels"] == ["ai"]


def test_the_same_many_again_are_not_asked_twice(alice):
    first = change(alice, wants(), wants(THERE))

    again = change(alice, wants(THERE), wants(), status=200)

    assert again.json()["id"] == first.json()["id"]
    assert again["Location"] == first["Location"]


def test_each_key_names_how_it_was_seen(house, alice):
    etags = {name: alice.get(f"/keys/{name}")["ETag"] for name in (HERE, THERE)}
    alice.patch(f"/keys/{THERE}", {"title": "Theirs"})

    rows = [wants(name, etag=etag) for name, etag in etags.items()]
    refused = change(alice, *rows, status=412)

    assert refused.json()["errors"] == [
        {"detail": f"{THERE} has changed since.", "pointer": "/keys/1/etag"}
    ]
    assert not Request.objects.filter(kind__startswith="key.change").exists()


def test_what_is_not_the_callers_is_refused_at_its_place(house, as_, alice):
    answer = change(alice, wants(), wants("no-such-key"), wants(), wants("No!"), status=422)
    hidden = change(as_(house.cast.mallory), wants(), wants("no-such-key"), status=422)
    seen = change(as_(house.cast.dave), wants(), status=422)

    assert [fault["pointer"] for fault in answer.json()["errors"]] == [
        "/keys/1/key",
        "/keys/2/key",
        "/keys/3/key",
    ]
    assert {fault["detail"] for fault in hidden.json()["errors"]} == {
        "There is no key of this name that you may have changed."
    }
    assert seen.json()["errors"][0]["pointer"] == "/keys/0/key"


def test_a_narrowed_token_changes_the_keys_that_it_names(house, as_, readers):
    narrowed = as_(house.cast.alice, keys=(HERE,))

    refused = change(narrowed, wants(THERE), status=422)
    by_kind = narrowed.post("/requests", {"kind": "key.change", "reason": WHY} | wants(THERE))

    assert refused.json()["errors"][0]["pointer"] == "/keys/0/key"
    assert by_kind.status_code == 404
    change(narrowed, wants())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"keys": [], "reason": WHY},
        {"keys": [wants()], "reason": ""},
        {"keys": [wants(volume_per_day=0)], "reason": WHY},
        {"keys": [wants(delivery_mode="prayer")], "reason": WHY},
        {"keys": [wants(owner="bob")], "reason": WHY},
        {"keys": [wants(f"key-{number}") for number in range(201)], "reason": WHY},
    ],
)
def test_a_body_that_says_nothing_or_too_much_is_refused(alice, body):
    answer = alice.post(CHANGES, body)

    assert (answer.status_code, kind_of(answer)) == (422, "invalid")


def test_an_agent_changes_no_list_of_keys(house, as_, readers, bot):
    builders.granted(house.cast, bot, readers[0])

    assert kind_of(change(as_(bot), wants(), status=403)) == "people-only"


def test_keys_that_policies_cannot_judge_at_once_are_told_apart(alice, monkeypatch):
    monkeypatch.setattr(matching, "MAX_COMBINATIONS", 1)

    answer = change(alice, wants(labels=["ai"]), wants(THERE), status=409)

    assert kind_of(answer) == "too-different"


def test_a_form_and_a_token_wait_for_each_other(house, alice, readers):
    use = change_key.Use.of(readers[0])
    change_key.ask(
        person=house.cast.alice,
        name=HERE,
        use=change_key.Use.from_json(use.to_json() | {"volume_per_day": 3}),
        reason=WHY,
        now=house.now,
    )

    answer = change(alice, wants(), wants(THERE), status=409)

    assert answer.json()["next_action"]["title"] == "Follow the request that was made before"
