"""Existing keys become keys of the inventory by one request, and nothing changes at a provider."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import transaction

from approvals.models import Request
from approvals.ports import NotVisible
from approvals.services import BadText, expire, withdraw
from keyvault.actions import about_keys, adopt_keys, new_adoption, new_key
from keyvault.actions.new_adoption import BadAdoption, Found
from keyvault.audit.models import Event
from keyvault.connections import shadows
from keyvault.connections.models import Adoption, Connection, ShadowKey
from keyvault.inventory import access
from keyvault.inventory.models import Key
from keyvault.providers.base import RemoteKey
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault
from keyvault.vault.models import Sealed
from tests import races
from tests.keyvault.actions.conftest import declared

pytestmark = pytest.mark.django_db
VALUE = "sk-live-canary-0001"


def found(name="old-reader", value=VALUE, owner="", remote_id="", **changes) -> Found:
    return Found(
        declared=declared(name=name, **changes), value=value, owner=owner, remote_id=remote_id
    )


@pytest.fixture
def adopt(house):
    """Return a function that asks to adopt keys as alice, or as somebody else."""

    def call(*keys, person=None):
        return adopt_keys.ask(
            person=person or house.cast.alice,
            found=keys or (found(),),
            reason="They lived in a file until now.",
            now=house.now,
        )

    return call


@pytest.fixture
def shadow(house, fake):
    """Return a function that lets the last look have seen a credential that nobody knows."""
    fake.value_field, fake.takes_listed = "password", True

    def call(remote_id="ext-1", slug="orders"):
        where = Connection.objects.get(slug=slug)
        seen = RemoteKey(remote_id, is_enabled=True, hint="...0001")
        fake.keys[remote_id] = seen
        with transaction.atomic():
            shadows.note(connection=where, foreign=[seen], now=house.now)
        return ShadowKey.objects.get(remote_id=remote_id)

    return call


def only(imported) -> Request:
    (one,) = imported.asked
    return Request.objects.get(pk=one.request.pk)


def sealed(kind: str) -> int:
    return Sealed.objects.filter(subject_kind=kind).count()


def value_of(house, key: Key) -> dict[str, bytes]:
    version = versions.current(key.pk)
    with_it = vault.open_material(
        version_id=version.pk, actor=about_keys.WORKER, now=house.now, purpose="test"
    )
    return {name: secret.reveal() for name, secret in with_it.items()}


def test_one_request_takes_several_keys_in_and_calls_no_provider(house, adopt, fake):
    request = only(adopt(found(), found("old-writer", "sk-live-canary-0002")))
    calls = list(fake.calls)

    house.say(house.cast.bob, request)
    house.work()

    request.refresh_from_db()
    assert (request.state, request.outcome["facts"]["Keys"]) == ("done", "old-reader, old-writer")
    assert fake.calls == calls
    for key in Key.objects.filter(request_id=request.pk):
        version = versions.current(key.pk)
        assert (key.state, version.number, version.remote_id, version.is_nameless) == (
            "live",
            1,
            "",
            True,
        )
        assert "view" in access.permissions(house.cast.alice, key)
    assert value_of(house, Key.objects.get(name="old-reader")) == {"value": VALUE.encode()}
    assert sealed("adoption") == 0


def test_the_plan_shows_all_that_execution_obeys_and_never_a_value(house, adopt):
    request = only(adopt(found(delivery_mode="pull")))

    (row,) = [row for row in request.plan["changes"] if row["field"] == "old-reader"]
    mark = Adoption.objects.get().fingerprint
    assert f"value {mark[:16]}" in row["then"]
    assert "id there not known: ended by a person" in row["then"]
    assert "hosts: db.example.com" in row["then"]
    assert (
        request.plan["body"]["keys"][0]["declared"]
        == declared(name="old-reader", delivery_mode="pull").to_json()
    )
    assert VALUE not in str(request.plan) + str(request.payload)


def test_prod_takes_two_people_of_different_teams(house, adopt):
    request = only(adopt(found(), found("old-prod", "sk-live-canary-0002", environment="prod")))

    house.say(house.cast.bob, request)
    house.work()
    request.refresh_from_db()
    assert request.state == "pending"
    house.say(house.cast.carol, request)
    house.work()

    request.refresh_from_db()
    assert request.state == "done"


def test_each_key_has_its_events_in_the_transaction_of_the_act(house, adopt):
    request = only(adopt(found(), found("old-writer", "sk-live-canary-0002")))
    house.say(house.cast.bob, request)
    house.work()

    written = Event.objects.filter(request_id=request.pk)
    for event in ("version.adopted", "key.live"):
        rows = written.filter(event=event)
        assert sorted(rows.values_list("subject_label", flat=True)) == ["old-reader", "old-writer"]
    assert len(set(written.filter(event="key.live").values_list("xact", flat=True))) == 1


@pytest.mark.parametrize("end", ["reject", "withdraw", "expire"])
def test_what_waited_is_deleted_when_the_request_ends_undone(house, adopt, end):
    request = only(adopt())
    assert sealed("adoption") == 1

    if end == "reject":
        house.say(house.cast.bob, request, verdict="reject")
    elif end == "withdraw":
        withdraw(request_id=request.pk, person=house.cast.alice, now=house.now)
    else:
        assert expire(now=request.expires_at + timedelta(seconds=1)) == 1

    assert sealed("adoption") == 0
    assert Adoption.objects.get().state == "dropped"
    assert Key.objects.get(request_id=request.pk).released_at is not None
    assert Event.objects.filter(event="adoption.dropped").count() == 1
    assert only(adopt()).state == "pending"


def test_a_known_value_is_a_duplicate_whatever_it_is_called(house, adopt):
    house.say(house.cast.bob, only(adopt()))
    house.work()

    again = adopt(found("another-name"))

    assert again.asked == ()
    (one,) = again.duplicates
    assert (one.name, one.why, one.of) == ("another-name", "known", "old-reader")


def test_a_value_that_keyvault_issued_is_a_duplicate_too(house, adopt, fake):
    key = house.create()
    issued = value_of(house, key)["password"].decode()

    (one,) = adopt(found("copied", issued)).duplicates

    assert (one.why, one.of) == ("known", "ledger-reader")


def test_a_value_that_stands_twice_is_taken_once(house, adopt):
    imported = adopt(found(), found("old-copy"))

    assert [one.names for one in imported.asked] == [("old-reader",)]
    (one,) = imported.duplicates
    assert (one.why, one.of) == ("in_file", "old-reader")


def test_whoever_may_not_see_a_key_is_not_told_its_name(house, adopt):
    adopt()

    (one,) = adopt(found("mine", team="security"), person=house.cast.bob).duplicates

    assert (one.why, one.of) == ("asked", "")


def test_each_owner_gets_one_request(house, adopt):
    imported = adopt(
        found(),
        found("for-carol", "sk-live-canary-0002", owner="carol"),
        found("old-writer", "sk-live-canary-0003"),
    )

    assert [one.names for one in imported.asked] == [
        ("old-reader", "old-writer"),
        ("for-carol",),
    ]
    assert Key.objects.get(name="for-carol").owner == house.cast.carol
    assert {row.requester_id for row in Request.objects.all()} == {house.cast.alice.pk}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"owner": "bob"}, "team"),
        ({"owner": "nobody-here"}, "owner"),
        ({"value": "short"}, "value"),
        ({"value": "x" * 16_385}, "value"),
        ({"remote_id": "ext-1"}, "remote_id"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_asked(house, adopt, change, field):
    with pytest.raises(BadAdoption) as refused:
        adopt(replace(found("fine", "sk-live-canary-0009")), replace(found(), **change))

    assert [(fault.at, fault.field) for fault in refused.value.faults] == [(1, field)]
    assert not Request.objects.exists()
    assert not Key.objects.exists()
    assert sealed("adoption") == 0
    assert change.get("value", VALUE) not in str(refused.value)


def test_a_taken_name_and_one_that_stands_twice_are_refused(house, adopt):
    house.create(name="taken")

    with pytest.raises(BadAdoption) as refused:
        adopt(
            found("taken", "sk-live-canary-0001"),
            found("twice", "sk-live-canary-0002"),
            found("twice", "sk-live-canary-0003"),
        )

    assert [(fault.at, fault.field) for fault in refused.value.faults] == [(0, "name"), (2, "name")]


def test_more_than_two_hundred_keys_are_refused(house, adopt):
    with pytest.raises(BadAdoption, match="from 1 to 200 keys"):
        adopt(*[found(f"key-{n}", f"sk-live-{n:08}") for n in range(new_adoption.MOST + 1)])


def test_without_a_reason_nothing_is_left_behind(house):
    with pytest.raises(BadText):
        adopt_keys.ask(person=house.cast.alice, found=[found()], reason=" ", now=house.now)

    assert not Key.objects.exists()
    assert sealed("adoption") == 0


def test_a_connection_that_leads_elsewhere_by_now_stops_all_of_them(house, adopt):
    request = only(adopt(found(), found("old-writer", "sk-live-canary-0002")))
    house.say(house.cast.bob, request)
    Connection.objects.filter(slug="orders").update(config={"host": "new.example.com"}, revision=2)

    house.work()

    request.refresh_from_db()
    assert request.state == "invalidated"
    assert not Key.objects.filter(state="live").exists()
    assert sealed("adoption") == 0


def test_for_an_owner_who_has_left_nothing_is_taken_in(house, adopt):
    request = only(adopt(found(owner="carol")))
    house.say(house.cast.bob, request)
    type(house.cast.carol).objects.filter(pk=house.cast.carol.pk).update(is_active=False)

    house.work()

    request.refresh_from_db()
    assert (request.state, request.end_code) == ("failed", "owner_left")
    assert sealed("adoption") == 0
    assert not Key.objects.filter(state="live").exists()


def test_a_listed_credential_is_adopted_with_its_id_and_can_be_ended(house, adopt, fake, shadow):
    shadow("ext-1")
    fake.values["ext-1"] = VALUE.encode()
    request = only(adopt(found(remote_id="ext-1")))
    house.say(house.cast.bob, request)
    house.work()

    key = Key.objects.get(name="old-reader")
    version = versions.current(key.pk)
    assert (version.remote_id, version.is_nameless) == ("ext-1", False)
    assert value_of(house, key) == {"password": VALUE.encode()}
    assert not ShadowKey.objects.exists()
    ending = house.revoke(key)
    house.say(house.cast.bob, ending)
    house.work()

    assert Request.objects.get(pk=ending.pk).state == "done"
    assert fake.alive() == []


def test_an_id_is_asked_for_once(house, adopt, shadow):
    shadow("ext-1")
    adopt(found(remote_id="ext-1"))

    with pytest.raises(BadAdoption, match="asked to adopt this one already"):
        adopt(found("again", "sk-live-canary-0002", remote_id="ext-1"))


def test_two_hundred_keys_are_taken_in_by_one_request(house, adopt, django_assert_max_num_queries):
    many = [found(f"key-{n}", f"sk-live-{n:08}") for n in range(new_adoption.MOST)]
    with django_assert_max_num_queries(4500):
        request = only(adopt(*many))
    house.say(house.cast.bob, request)
    house.work()

    request.refresh_from_db()
    assert request.state == "done"
    assert Key.objects.filter(state="live").count() == new_adoption.MOST


@pytest.mark.django_db(transaction=True)
def test_two_imports_of_the_same_file_at_once_ask_once(house, adopt):
    file = (found(), found("old-writer", "sk-live-canary-0002"))

    done = []
    both = threading.Barrier(2, timeout=races.PATIENCE_S)

    def bring():
        both.wait()
        done.append(adopt(*file))

    racers = [races.Racer(bring), races.Racer(bring)]
    for racer in racers:
        racer.finish()

    assert sorted(len(one.asked) for one in done) == [0, 1]
    assert sorted(len(one.duplicates) for one in done) == [0, 2]
    assert {twin.why for one in done for twin in one.duplicates} == {"asked"}
    assert Request.objects.count() == 1
    assert Adoption.objects.count() == 2


def test_the_form_of_one_key_does_not_open_for_it(house, adopt):
    request = only(adopt())

    with pytest.raises(NotVisible):
        new_key.reserved_by(request.pk, person=house.cast.alice)
