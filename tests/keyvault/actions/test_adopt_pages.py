"""Adopt a key on its form, and a shadow key from the page of its Connection."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from django.db import transaction

from approvals.models import Request
from keyvault.connections import reconcile, shadows
from keyvault.connections.models import Adoption, Connection, ShadowKey
from keyvault.inventory.models import Key
from keyvault.providers.base import RemoteKey
from keyvault.vault import selectors as versions
from tests.keyvault.connections.fakes import Claims

pytestmark = pytest.mark.django_db
CANARY = "sk-typed-canary-5512"
PAGE = "/requests/adopt/"


def form(**changes):
    usual = {
        "connection": "orders",
        "name": "old-reader",
        "title": "",
        "value": CANARY,
        "team": "payments",
        "backup_owner": "",
        "environment": "dev",
        "allowed_hosts": "db.example.com",
        "volume_per_day": "100",
        "delivery_mode": "reveal",
        "lifetime_days": "90",
        "cadence_days": "30",
        "purpose": "It lived in a file.",
        "ticket": "",
        "labels": "",
    }
    return usual | changes


def text(answer) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


@pytest.fixture
def alice(house, client_for):
    return client_for(house.cast.alice)


@pytest.fixture
def frank(house, client_for):
    return client_for(house.cast.frank)


@pytest.fixture
def shadow(house, fake):
    """A credential at the provider that nobody here has made, as the last look has seen it."""
    fake.value_field, fake.takes_listed = "password", True
    where = Connection.objects.get(slug="orders")
    fake.keys["ext-1"] = RemoteKey("ext-1", is_enabled=True, hint="...5512")
    fake.values["ext-1"] = CANARY.encode()
    reconcile.look(where.pk, Claims(house.now).claim())
    return ShadowKey.objects.get()


def test_the_form_asks_for_the_value_and_files_a_request(house, alice):
    assert "First choose where the value is valid" in text(alice.get(PAGE))
    shown = text(alice.get(f"{PAGE}?connection=orders"))
    assert 'type="password"' in shown
    assert "no call can end this value" in shown

    answer = alice.post(PAGE, form())

    request = Request.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/approvals/{request.pk}/")
    page = text(alice.get(answer["Location"]))
    assert "Take the key old-reader that exists already at Orders" in page
    assert "id there not known: ended by a person" in page
    assert CANARY not in page
    house.say(house.cast.bob, request)
    house.work()
    shown = text(alice.get("/keys/old-reader/versions/"))
    assert "id not known, ended by a person" in shown
    assert CANARY not in shown


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"value": ""}, "id_value"),
        ({"value": "short"}, "id_value"),
        ({"name": "Not OK!"}, "id_name"),
        ({"lifetime_days": "9999"}, "id_lifetime_days"),
        ({"purpose": ""}, "id_purpose"),
    ],
)
def test_a_fault_is_shown_beside_its_field_and_the_value_never_again(alice, changes, field):
    answer = alice.post(PAGE, form(**changes))

    assert answer.status_code == 422
    assert f'href="#{field}"' in text(answer)
    assert CANARY not in text(answer)
    assert not Adoption.objects.exists()


def test_a_value_that_is_known_is_told_by_the_key_that_holds_it(alice):
    alice.post(PAGE, form())

    answer = alice.post(PAGE, form(name="another"))

    assert answer.status_code == 422
    assert "This value waits for a decision already: old-reader." in text(answer)
    assert Request.objects.count() == 1


@pytest.mark.parametrize("query", ["connection=nowhere", "shadow=x", f"shadow={uuid4()}"])
def test_what_is_not_there_is_not_found(alice, query):
    assert alice.get(f"{PAGE}?{query}").status_code == 404


def test_a_connection_lists_its_shadow_keys_with_a_button(frank, shadow):
    page = text(frank.get("/connections/orders/"))

    assert "Shadow keys" in page
    assert "...5512" in page
    assert f'href="{PAGE}?shadow={shadow.pk}"' in page


def test_without_any_there_is_no_list(house, frank):
    assert "Shadow keys" not in text(frank.get("/connections/orders/"))


def test_a_shadow_key_is_shown_to_whoever_sees_its_connection(house, frank, client_for, shadow):
    address = f"{PAGE}?shadow={shadow.pk}"

    assert "ext-1" in text(frank.get(address))
    assert client_for(house.cast.alice).get(address).status_code == 404
    where = Connection.objects.get(slug="orders")
    where.team = house.cast.payments.group
    where.save()
    assert client_for(house.cast.alice).get(address).status_code == 200


def test_a_shadow_key_becomes_a_key_with_its_id_and_leaves_the_list(house, client_for, shadow):
    Connection.objects.update(team=house.cast.payments.group)
    alice = client_for(house.cast.alice)

    answer = alice.post(PAGE, form(shadow=str(shadow.pk)))

    request = Request.objects.get()
    assert answer.status_code == 302, text(answer)
    assert "id there: ext-1" in text(alice.get(answer["Location"]))
    frank = client_for(house.cast.frank)
    assert "asked for" in text(frank.get("/connections/orders/"))
    house.say(house.cast.bob, request)
    house.work()
    assert versions.current(Key.objects.get().pk).remote_id == "ext-1"
    assert "Shadow keys" not in text(frank.get("/connections/orders/"))
    where = Connection.objects.get(slug="orders")
    reconcile.look(where.pk, Claims(house.now).claim())
    assert not ShadowKey.objects.exists()


def test_a_look_keeps_the_list_true_and_when_each_was_first_seen(house, fake, shadow):
    where = Connection.objects.get(slug="orders")
    first = shadow.first_seen_at
    later = first.replace(year=first.year + 1)
    with transaction.atomic():
        both = [RemoteKey("ext-1", hint="renamed"), RemoteKey("ext-2")]
        shadows.note(connection=where, foreign=both, now=later)

    seen = {row.remote_id: row for row in shadows.shadows(where.pk)}
    assert (seen["ext-1"].first_seen_at, seen["ext-1"].remote["hint"]) == (first, "renamed")
    assert seen["ext-2"].first_seen_at == later
    fake.keys.clear()
    reconcile.look(where.pk, Claims(house.now).claim())
    assert not ShadowKey.objects.exists()


def test_a_long_list_is_cut(house):
    where = Connection.objects.get(slug="orders")
    with transaction.atomic():
        many = [RemoteKey(f"ext-{n}") for n in range(shadows.MOST + 1)]
        shadows.note(connection=where, foreign=many, now=house.now)

    assert len(shadows.shadows(where.pk)) == shadows.MOST
