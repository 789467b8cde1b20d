"""Ask, follow, revise and withdraw by token, as a person and as an agent."""

from __future__ import annotations

import pytest

from approvals.models import Request
from keyvault.audit.models import Event
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db

ASKED = {
    "name": "ledger-reader",
    "connection": "orders",
    "environment": "dev",
    "team": "payments",
    "allowed_hosts": ["db.example.com"],
}


def creation(**changes):
    return {"kind": "key.create", "reason": "The close needs it.", "declared": ASKED | changes}


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


def test_an_agent_asks_in_the_name_of_its_owner(house, as_, bot):
    made = as_(bot).post("/requests", creation())

    assert made.status_code == 201, made.content
    row = Request.objects.get(pk=made.json()["id"])
    event = Event.objects.get(event="request.submitted", request_id=row.pk)
    assert (row.requester, row.asked_by.id) == (house.cast.alice, str(bot.pk))
    assert (event.actor_kind, event.actor_label, event.on_behalf_of) == (
        "agent",
        "refund-bot",
        "alice",
    )


def test_every_refusal_is_a_problem_document(cast, as_):
    for answer in (
        as_(cast.alice).get("/keys/none-such"),
        as_(cast.alice).get("/nowhere"),
        as_(cast.alice).call("DELETE", "/api/v1/keys"),
        as_(cast.alice).get("/keys?ordering=secret"),
        builders and as_(cast.alice).post("/requests", {"kind": "key.decide"}),
    ):
        assert answer["Content-Type"] == "application/problem+json", answer.content
        assert answer.json()["status"] == answer.status_code
        assert answer.json()["request_id"] == answer["X-Request-Id"]
