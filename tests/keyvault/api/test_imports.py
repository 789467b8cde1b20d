"""Bring existing keys by token: one request for each owner, and no value back or kept."""

from __future__ import annotations

import json

import pytest
from django.db import connection

from approvals.models import Request
from keyvault.actions import new_adoption
from keyvault.api import bodies
from keyvault.api.models import ApiReplay
from keyvault.audit.models import Event
from keyvault.connections.models import Adoption
from keyvault.inventory.models import Key
from keyvault.vault.models import Sealed
from tests.keyvault.api.test_requests import kind_of

pytestmark = pytest.mark.django_db
CANARY = "sk-import-canary-41c9"


def brought(name="old-reader", value=CANARY, **changes):
    usual = {"connection": "orders", "environment": "dev", "team": "payments"}
    return {"name": name, "value": value, **usual, **changes}


def body(*keys, **more):
    return {"keys": list(keys or [brought()]), "reason": "They lived in a file."} | more


def faults(answer) -> set[str]:
    return {fault["pointer"] for fault in answer.json()["errors"]}


def test_a_person_brings_keys_and_follows_the_request(house, as_):
    alice = as_(house.cast.alice)

    made = alice.post("/imports", body(brought(), brought("old-writer", "sk-import-canary-2")))

    assert made.status_code == 201, made.content
    (asked,) = made.json()["requests"]
    assert (asked["owner"], asked["keys"]) == ("alice", ["old-reader", "old-writer"])
    assert alice.get(f"/requests/{asked['id']}").json()["kind"] == "key.adopt"
    house.say(house.cast.bob, Request.objects.get(pk=asked["id"]))
    house.work()
    assert alice.get("/keys/old-reader").json()["state"] == "live"
    assert house.fake.calls == []


def test_the_same_import_again_asks_nothing(house, as_):
    alice = as_(house.cast.alice)
    alice.post("/imports", body())

    again = alice.post("/imports", body(), Idempotency_Key="import-1")

    assert (again.status_code, again.json()["requests"]) == (200, [])
    assert again.json()["duplicates"] == [
        {"name": "old-reader", "why": "asked", "of": "old-reader"}
    ]
    assert Request.objects.count() == 1
    counts = Event.objects.filter(event="import.received").order_by("at")
    assert [row.fields["duplicates"] for row in counts] == [0, 1]


def test_neither_a_value_nor_a_digest_of_the_body_is_kept(house, as_):
    alice = as_(house.cast.alice)

    made = alice.post("/imports", body(), Idempotency_Key="import-1")

    assert CANARY not in made.content.decode()
    assert not ApiReplay.objects.exists()
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(
                f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE %s', [f"%{CANARY}%"]
            )
            assert cursor.fetchone() == (0,), table


def test_an_agent_brings_nothing(house, as_, bot):
    answer = as_(bot).post("/imports", body())

    assert (answer.status_code, kind_of(answer)) == (403, "people-only")
    assert not Adoption.objects.exists()


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"name": "Not A Name"}, "/keys/1/name"),
        ({"allowed_hosts": ["http://x"]}, "/keys/1/allowed_hosts"),
        ({"team": "security"}, "/keys/1/team"),
        ({"connection": "nowhere"}, "/keys/1/connection"),
        ({"owner": "mallory"}, "/keys/1/team"),
        ({"owner": "nobody-here"}, "/keys/1/owner"),
        ({"value": "short"}, "/keys/1/value"),
        ({"value": "x" * (new_adoption.MOST_BYTES + 1)}, "/keys/1/value"),
        ({"value": 12}, "/keys/1/value"),
        ({"remote_id": "ext-1"}, "/keys/1/remote_id"),
        ({"state": "live"}, "/keys/1/state"),
    ],
)
def test_one_fault_refuses_all_and_names_its_field(house, as_, changes, pointer):
    fine = brought("fine", "sk-import-canary-1")

    answer = as_(house.cast.alice).post("/imports", body(fine, brought() | changes))

    assert answer.status_code == 422, answer.content
    assert faults(answer) == {pointer}
    assert CANARY not in answer.content.decode()
    assert not Key.objects.exists()
    assert not Sealed.objects.filter(subject_kind="adoption").exists()


def test_more_than_two_hundred_or_too_many_bytes_are_refused(house, as_):
    alice = as_(house.cast.alice)
    many = [brought(f"key-{n}", f"sk-import-{n:08}") for n in range(new_adoption.MOST + 1)]

    assert faults(alice.post("/imports", body(*many))) == {"/keys"}
    large = alice.post("/imports", json.dumps(body(reason="x" * bodies.VALUES.size)).encode())
    assert large.status_code == 413


def test_no_keys_are_refused(house, as_):
    assert faults(as_(house.cast.alice).post("/imports", {"keys": [], "reason": "x"})) == {"/keys"}


def test_somebody_elses_key_is_a_duplicate_without_a_name(house, as_):
    as_(house.cast.alice).post("/imports", body())

    answer = as_(house.cast.bob).post("/imports", body(brought("mine", team="security")))

    assert answer.json()["duplicates"] == [{"name": "mine", "why": "asked", "of": ""}]


def test_a_sealed_installation_takes_nothing(house, as_, monkeypatch):
    from keyvault.crypto import keyring

    def closed():
        raise keyring.NoKey("There is no key-encryption key.")

    monkeypatch.setattr(keyring, "active", closed)

    answer = as_(house.cast.alice).post("/imports", body())

    assert (answer.status_code, kind_of(answer)) == (503, "unavailable")
    assert not Key.objects.exists()
