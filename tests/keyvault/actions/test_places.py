"""Laying a key at a place: who may ask, who decides, what is written, and how it ends."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction
from django.urls import reverse

from approvals import selectors
from approvals.models import Job, Request
from approvals.ports import NotVisible
from keyvault.actions import about_keys, add_place, name_dependent, remove_place
from keyvault.audit.models import Event
from keyvault.buckets import Rate
from keyvault.connections import checks
from keyvault.connections.drafts import BadDraft
from keyvault.connections.models import Connection
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent, Push
from keyvault.vault import selectors as versions
from tests import races
from tests.keyvault.destinations.memory import Places, installed
from tests.keyvault.vault import rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shelf(house):
    """A destination that is kept for the key's environment."""
    with installed(Places()) as made:
        rows.connection(house.cast, provider=made.kind, slug="shelf", environment=house.cast.dev)
        yield made


@pytest.fixture
def lay(house, shelf):
    """Ask that alice's key is written to a place, with changes."""

    def call(**what):
        usual = {
            "person": house.cast.alice,
            "key": "ledger-reader",
            "connection": "shelf",
            "name": "orders",
            "target": {"place": "apps/orders"},
            "reason": "Orders reads it there.",
            "now": house.now,
        }
        usual |= what
        names = ("key", "connection", "target")
        both = {part: usual[part] for part in ("person", "now")}
        place = add_place.look(**both, **{part: usual.pop(part) for part in names})
        return add_place.ask(place=place, **usual)

    return call


@pytest.fixture
def laid(house, lay):
    """A key that lies at a place."""
    house.create()
    house.say(house.cast.bob, lay())
    house.work()
    return Dependent.objects.get(name="orders")


def test_an_approved_place_is_registered_and_written(house, shelf, lay):
    key = house.create()
    request = lay()
    house.work()
    assert shelf.at["apps/orders"].live is None, "nothing is written before it is approved"

    house.say(house.cast.bob, request)
    house.work()

    row = Dependent.objects.get(key=key)
    assert (row.push, row.request_id, row.target) == (
        Push.THERE,
        request.pk,
        {"place": "apps/orders"},
    )
    assert shelf.at["apps/orders"].live[0] == str(versions.current(key.pk).pk)
    assert Request.objects.get(pk=request.pk).state == "done"
    assert Event.objects.filter(event="dependent.pushed").count() == 1


def test_the_plan_says_where_it_lies_and_what_that_opens(house, shelf, lay):
    house.create()
    plan = selectors.plan_of(lay().pk)
    shown = {change["field"]: change["then"] for change in plan["changes"]}

    assert shown["Destination"].startswith("Shelf")
    assert "can read the value" in plan["breaks"][0]


def seen(request):
    """Return the row of a plan that says what was seen at the place, and its warning."""
    rows = selectors.plan_of(request.pk)["changes"]
    [row] = [row for row in rows if row["field"].startswith("Seen there, ")]
    return row["then"], row["warning"]


def test_the_plan_says_what_was_seen_at_the_place(house, shelf, lay):
    house.create()
    assert seen(lay()) == ("Nothing stands in the way.", "")
    shelf.at["second"].live = ("", b"", b"typed-by-hand")
    words, warning = seen(lay(name="second", target={"place": "second"}))
    assert words.startswith("A value lies there that was not written for this place.")
    assert "choose another place" in words
    assert warning == "Not ready"
    assert shelf.at["second"].live[2] == b"typed-by-hand"
    shelf.at["third"].fault = "down"
    assert seen(lay(name="third", target={"place": "third"})) == (
        "Out of reach. Wait.",
        "Not ready",
    )

    lines = Event.objects.filter(event="place.checked")
    assert [line.fields["connection"] for line in lines] == ["shelf"] * 3
    assert {line.actor_label for line in lines} == {str(house.cast.alice)}


def test_what_an_older_release_asked_is_rebuilt_without_what_was_seen():
    payload = {
        "key_id": str(uuid4()),
        "connection_id": str(uuid4()),
        "name": "orders",
        "target": {"place": "apps/orders"},
        "wave": 0,
        "cache_s": 0,
    }
    assert add_place.AddPlace.from_payload(payload).to_payload() == payload
    with pytest.raises(ValueError, match="other fields"):
        add_place.AddPlace.from_payload(payload | {"more": 1})


def test_who_cannot_have_it_rotated_cannot_lay_it_anywhere(house, shelf, lay):
    house.create()
    shelf.at["apps/orders"].fault = "down"
    with pytest.raises(NotVisible):
        lay(person=house.cast.mallory)
    assert shelf.at["apps/orders"].hits == 0, "nobody is asked on behalf of a stranger"
    assert not Event.objects.filter(event="place.checked").exists()


def test_a_place_takes_what_its_destination_asks_for(house, lay):
    house.create()
    with pytest.raises(BadDraft) as missing:
        lay(target={})
    assert missing.value.errors == {"place": "Place is needed."}
    with pytest.raises(BadDraft) as unknown:
        lay(target={"place": "a", "path": "b"})
    assert set(unknown.value.errors) == {"path"}


def test_a_destination_of_another_environment_is_not_offered(house, shelf, lay):
    key = house.create()
    Connection.objects.filter(slug="shelf").update(environment=house.cast.prod)

    assert add_place.destinations(house.cast.alice, key) == []
    with pytest.raises(add_place.NotPlaceable):
        lay()


def test_a_destination_that_serves_every_environment_counts_as_protected(house, shelf, lay):
    house.create()
    Connection.objects.filter(slug="shelf").update(environment=None)
    request = lay()

    house.say(house.cast.bob, request)
    house.work()
    assert shelf.at["apps/orders"].live is None, "one signature is not enough"

    house.say(house.cast.carol, request)
    house.work()
    assert shelf.at["apps/orders"].live is not None


def test_a_provider_is_no_destination(house, lay):
    house.create()
    with pytest.raises(add_place.NotPlaceable):
        lay(connection="orders")


def test_the_same_place_is_asked_for_once_and_taken_once(house, shelf, lay, laid):
    with pytest.raises(add_place.NotPlaceable, match="written to this place already"):
        lay(name="again")
    with pytest.raises(add_place.NotPlaceable, match="is a dependent"):
        lay(target={"place": "elsewhere"})
    lay(name="second", target={"place": "second"})
    with pytest.raises(about_keys.AlreadyAsked):
        lay(name="third", target={"place": "second"})


def test_of_two_keys_that_race_for_a_place_one_is_written(house, shelf):
    keys = [house.create(), house.create(name="other-reader", title="Other")]
    where = Connection.objects.get(slug="shelf")

    def register(key):
        with transaction.atomic():
            return dependents.register_place(
                key=key,
                name="orders",
                connection=where,
                target={"place": "apps/orders"},
                wave=0,
                cache_s=0,
                request_id=uuid4(),
                now=house.now,
                actor=about_keys.WORKER,
            )

    with transaction.atomic():
        register(keys[0])
        racer = races.Racer(lambda: register(keys[1]))
        races.await_somebody_waiting()
    with pytest.raises(dependents.PlaceTaken):
        racer.finish()

    assert [row.key for row in Dependent.objects.all()] == [keys[0]]


def test_a_connection_that_leads_elsewhere_by_now_gets_nothing(house, shelf, lay):
    house.create()
    request = lay()
    house.say(house.cast.bob, request)
    Connection.objects.filter(slug="shelf").update(config={"address": "elsewhere"})

    house.work()

    assert Request.objects.get(pk=request.pk).state == "invalidated"
    assert not Dependent.objects.exists()


def test_a_removal_takes_the_value_away_once_it_is_approved(house, shelf, laid):
    request = remove_place.ask(
        person=house.cast.alice, key="ledger-reader", place="orders", reason="Gone.", now=house.now
    )
    house.work()
    assert shelf.at["apps/orders"].live is not None

    house.say(house.cast.bob, request)
    house.work()

    assert shelf.at["apps/orders"].live is None
    laid.refresh_from_db()
    assert laid.ended_at is not None
    assert selectors.plan_of(request.pk)["title"] == "Remove ledger-reader from orders"


def test_a_place_ends_by_approval_alone(house, laid):
    with pytest.raises(name_dependent.NotNameable):
        name_dependent.end(
            person=house.cast.alice, key="ledger-reader", dependent_id=laid.pk, now=house.now
        )


def test_a_revoked_key_lies_nowhere(house, shelf, laid):
    request = house.revoke(laid.key)
    house.say(house.cast.bob, request)
    house.work()

    assert Request.objects.get(pk=request.pk).state == "done"
    assert shelf.at["apps/orders"].live is None
    assert "removed from orders" in " ".join(selectors.plan_of(request.pk)["breaks"])


def test_writing_again_takes_up_what_was_held(house, shelf, lay):
    house.create()
    shelf.at["apps/orders"].live = ("", b"", b"typed-by-hand")
    house.say(house.cast.bob, lay())
    house.work()
    row = Dependent.objects.get(name="orders")
    assert row.push == Push.FAILED
    shelf.at["apps/orders"].live = None

    name_dependent.write_again(
        person=house.cast.alice, key="ledger-reader", dependent_id=row.pk, now=house.now
    )
    house.work()

    row.refresh_from_db()
    assert row.push == Push.THERE
    assert Job.objects.filter(subject_id=row.pk, state="held").count() == 0


def test_the_pages_ask_show_and_remove(house, shelf, client_for, key_place_form):
    house.create()
    alice = client_for(house.cast.alice)
    chosen = alice.get(reverse("place-new", args=["ledger-reader"]))
    assert "Shelf" in chosen.content.decode()

    bad = alice.post(reverse("place-new", args=["ledger-reader"]), key_place_form | {"name": ""})
    assert bad.status_code == 422
    made = alice.post(reverse("place-new", args=["ledger-reader"]), key_place_form)
    request = Request.objects.get(kind="place.add")
    assert made.headers["Location"] == reverse("request", args=[request.pk])
    house.say(house.cast.bob, request)
    house.work()

    page = alice.get(reverse("key-dependents", args=["ledger-reader"])).content.decode()
    assert "Write again" in page
    assert "v1" in page
    row = Dependent.objects.get(name="orders")
    asked = alice.post(
        reverse("place-remove", args=["ledger-reader", row.pk]), {"reason": "Gone.", "ticket": ""}
    )
    assert asked.status_code == 302
    assert Request.objects.filter(kind="place.remove").count() == 1
    again = alice.post(reverse("place-write", args=["ledger-reader", row.pk]))
    assert again.status_code == 302
    for name in ("place-remove", "place-write"):
        hidden = client_for(house.cast.mallory).post(
            reverse(name, args=["ledger-reader", row.pk]), {}
        )
        assert hidden.status_code == 404


def test_a_place_is_checked_on_its_form_before_it_is_asked_for(
    house, shelf, client_for, key_place_form
):
    house.create()
    alice, url = client_for(house.cast.alice), reverse("place-new", args=["ledger-reader"])
    early = key_place_form | {"name": "", "reason": "", "check": "1"}
    found = alice.post(url, early)
    assert found.status_code == 200
    assert "Nothing stands in the way" in found.content.decode()
    shelf.at["apps/orders"].live = ("", b"", b"typed-by-hand")

    stopped = alice.post(url, key_place_form | {"send": "1"})

    assert stopped.status_code == 422
    assert "A value lies there" in stopped.content.decode()
    assert "Send all the same" in stopped.content.decode()
    assert not Request.objects.filter(kind="place.add").exists()
    alice.post(url, key_place_form | {"anyway": "1"})
    assert seen(Request.objects.get(kind="place.add"))[1] == "Not ready"


def test_a_stranger_checks_nothing(house, shelf, client_for, key_place_form):
    house.create()
    shelf.at["apps/orders"].fault = "down"
    url = reverse("place-new", args=["ledger-reader"])

    answer = client_for(house.cast.mallory).post(url, key_place_form | {"check": "1"})

    assert answer.status_code == 404
    assert shelf.at["apps/orders"].hits == 0


def test_who_looks_at_many_places_waits_a_minute(
    house, shelf, client_for, key_place_form, monkeypatch
):
    monkeypatch.setattr(checks, "RATE", Rate(per_s=0.001, burst=1))
    house.create()
    alice, url = client_for(house.cast.alice), reverse("place-new", args=["ledger-reader"])
    assert alice.post(url, key_place_form | {"check": "1"}).status_code == 200
    hits = shelf.at["apps/orders"].hits

    for act in ("check", "send", "anyway"):
        refused = alice.post(url, key_place_form | {act: "1"})
        assert refused.status_code == 429
        assert "Wait a minute, then try again." in refused.content.decode()

    assert shelf.at["apps/orders"].hits == hits
    assert Event.objects.filter(event="place.checked").count() == 1
    assert not Request.objects.filter(kind="place.add").exists()


@pytest.fixture
def key_place_form():
    return {
        "connection": "shelf",
        "name": "orders",
        "target_place": "apps/orders",
        "wave": 0,
        "cache_s": 0,
        "reason": "Orders reads it there.",
        "ticket": "",
    }
