"""Places asked for by token: looked at first, and told to those who decide."""

from __future__ import annotations

import pytest

from approvals import selectors
from approvals.models import Request
from keyvault.accounts import selectors as people
from keyvault.api import limits
from keyvault.audit.models import Event
from keyvault.buckets import Rate
from keyvault.connections import checks
from tests.keyvault.api.test_requests import kind_of
from tests.keyvault.destinations.memory import Places, installed
from tests.keyvault.vault import rows

pytestmark = pytest.mark.django_db(transaction=True)
BODY = {
    "kind": "place.add",
    "key": "ledger-reader",
    "connection": "shelf",
    "name": "orders",
    "target": {"place": "apps/orders"},
    "reason": "Orders reads it there.",
}


@pytest.fixture
def shelf(house):
    """A destination that is kept for the key's environment, and the key."""
    house.create()
    with installed(Places()) as made:
        rows.connection(house.cast, provider=made.kind, slug="shelf", environment=house.cast.dev)
        yield made


def test_a_place_that_holds_somebody_elses_value_is_asked_for_and_its_plan_says_so(
    house, as_, shelf
):
    shelf.at["apps/orders"].live = ("", b"", b"typed-by-hand")

    made = as_(house.cast.alice).post("/requests", BODY)

    assert made.status_code == 201
    plan = selectors.plan_of(Request.objects.get(kind="place.add").pk)
    [row] = [row for row in plan["changes"] if row["field"].startswith("Seen there, ")]
    assert row["warning"] == "Not ready"
    assert "never replaced" in row["then"]
    assert b"typed-by-hand" not in made.content
    assert Event.objects.filter(event="place.checked").count() == 1


def test_who_cannot_ask_has_nothing_looked_at(house, as_, shelf):
    shelf.at["apps/orders"].fault = "down"

    hidden = as_(house.cast.mallory).post("/requests", BODY)
    wrong = as_(house.cast.alice).post("/requests", BODY | {"target": {"path": "x"}})

    assert (hidden.status_code, kind_of(hidden)) == (404, "not-found")
    assert wrong.status_code == 422
    assert shelf.at["apps/orders"].hits == 0
    assert not Event.objects.filter(event="place.checked").exists()


def test_who_has_many_places_looked_at_is_told_when_to_come_again(house, as_, shelf, monkeypatch):
    monkeypatch.setattr(checks, "RATE", Rate(per_s=0.1, burst=1))
    alice = as_(house.cast.alice)
    checks.admit(people.actor(house.cast.alice))

    refused = alice.post("/requests", BODY, Idempotency_Key="k-1")

    assert (refused.status_code, kind_of(refused)) == (429, "too-many-requests")
    assert 1 <= int(refused["Retry-After"]) <= 10
    assert "Wait a minute" in refused.json()["detail"]
    assert shelf.at["apps/orders"].hits == 0
    limits.buckets.clear()
    assert alice.post("/requests", BODY, Idempotency_Key="k-1").status_code == 201
