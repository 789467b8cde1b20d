"""Ask, follow, revise and withdraw by token, as a person and as an agent."""

from __future__ import annotations

from uuid import uuid4

import pytest

from approvals.models import Request
from keyvault.api import limits
from keyvault.audit.models import Event
from keyvault.inventory.models import Key

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
