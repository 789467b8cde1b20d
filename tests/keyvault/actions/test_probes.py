"""Having a dependent asked over HTTP: who may want it, who decides by the network, and how it ends."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.urls import reverse

from approvals import selectors, services
from approvals.models import Request
from approvals.ports import NotVisible
from keyvault.actions import about_keys, add_probe, name_dependent
from keyvault.audit.models import Event
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent, Health, Probe
from keyvault.inventory import services as inventory
from tests import races
from tests.keyvault.inventory.builders import TESTS

pytestmark = pytest.mark.django_db(transaction=True)
PUBLIC, PRIVATE = "https://orders.example.com/health", "http://orders.internal:8080/health"


@pytest.fixture
def register(house):
    """Register a user of alice's key."""

    def call(name="orders", health=Health.PROBED):
        key = house.create()
        with transaction.atomic():
            return dependents.register(
                key=key, name=name, health=health, now=house.now, actor=TESTS
            )

    return call


@pytest.fixture
def want(house):
    """Ask that an address is asked about `orders`, with changes."""

    def call(**what):
        usual = {
            "person": house.cast.alice,
            "key": "ledger-reader",
            "dependent": "orders",
            "address": PUBLIC,
            "is_private": False,
            "reason": "It says there how it is.",
            "now": house.now,
        }
        return add_probe.ask(**usual | what)

    return call


def test_an_approved_address_is_asked_from_then_on(house, register, want):
    row = register()
    request = want()
    house.work()
    assert not Probe.objects.exists(), "nothing is asked before it is approved"

    house.say(house.cast.bob, request)
    house.work()

    probe = Probe.objects.get()
    assert (probe.dependent, probe.address, probe.allowed) == (row, PUBLIC, "")
    assert Request.objects.get(pk=request.pk).state == "done"
    assert Event.objects.get(event="dependent.probe_set").fields["address"] == PUBLIC


def test_an_address_in_the_own_network_takes_an_administrator(house, register, want):
    register()
    request = want(address=PRIVATE, is_private=True)
    shown = {change["field"]: change["then"] for change in selectors.plan_of(request.pk)["changes"]}
    assert shown["Network"] == "private: http://orders.internal:8080"

    with pytest.raises((services.NotEligible, NotVisible)):
        house.say(house.cast.bob, request)
    house.say(house.cast.frank, request)
    house.work()

    assert Probe.objects.get().allowed == "http://orders.internal:8080"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"address": PRIVATE}, "begins with https://"),
        ({"address": "https://10.1.2.3/"}, "private address"),
        ({"address": "https://169.254.169.254/", "is_private": True}, "never allowed"),
        ({"address": f"{PUBLIC}?token=1"}, "no query"),
    ],
)
def test_an_address_that_cannot_be_asked_is_refused(register, want, what, words):
    register()
    with pytest.raises(add_probe.NotAskable, match=words):
        want(**what)
    assert not Request.objects.filter(kind="probe.add").exists()


def test_who_says_so_by_hand_is_not_asked_over_http(register, want):
    register(health=Health.BY_HAND)
    with pytest.raises(add_probe.NotAskable, match="Register it anew"):
        want()


def test_who_cannot_have_the_key_rotated_sets_and_ends_no_address(house, register, want):
    row = register()
    with pytest.raises(NotVisible):
        want(person=house.cast.mallory)
    with pytest.raises(NotVisible):
        want(dependent="nobody")
    house.say(house.cast.bob, want())
    house.work()
    with pytest.raises(NotVisible):
        name_dependent.stop_asking(
            person=house.cast.mallory, key="ledger-reader", dependent_id=row.pk, now=house.now
        )
    assert Probe.objects.get().ended_at is None


def test_an_address_is_asked_for_once_and_a_new_one_takes_its_place(house, register, want):
    register()
    first = want()
    with pytest.raises(about_keys.AlreadyAsked):
        want(address="https://elsewhere.example.com/")
    house.say(house.cast.bob, first)
    house.work()
    house.say(house.cast.bob, want(address="https://elsewhere.example.com/"))
    house.work()

    alive = Probe.objects.get(ended_at=None)
    assert alive.address == "https://elsewhere.example.com/"
    assert Event.objects.filter(event="dependent.probe_ended").count() == 1


def test_nobody_is_asked_whose_registration_ended_before_the_approval(house, register, want):
    row = register()
    request = want()
    name_dependent.end(
        person=house.cast.alice, key="ledger-reader", dependent_id=row.pk, now=house.now
    )
    house.say(house.cast.bob, request)
    house.work()

    assert not Probe.objects.exists()
    assert Request.objects.get(pk=request.pk).state == "failed"


def test_with_the_registration_its_address_ends_once_however_many_end_it(house, register, want):
    row = register()
    house.say(house.cast.bob, want())
    house.work()

    def end():
        name_dependent.stop_asking(
            person=house.cast.alice, key="ledger-reader", dependent_id=row.pk, now=house.now
        )

    with transaction.atomic():
        inventory.lock(key_id=row.key_id)
        racers = [races.Racer(end) for _ in range(3)]
        races.await_somebody_waiting(3)
    late = 0
    for racer in racers:
        try:
            racer.finish()
        except NotVisible:
            late += 1
    name_dependent.end(
        person=house.cast.alice, key="ledger-reader", dependent_id=row.pk, now=house.now
    )

    assert late == 2
    assert Probe.objects.get().ended_at is not None
    assert Event.objects.filter(event="dependent.probe_ended").count() == 1


def test_the_pages_ask_show_and_end(house, register, client_for, want):
    row = register()
    alice = client_for(house.cast.alice)
    form = {"address": PUBLIC, "reason": "It says there how it is.", "ticket": ""}
    url = reverse("probe-new", args=["ledger-reader", row.pk])
    shown = alice.get(url).content.decode()
    assert "names the version" in shown
    bad = alice.post(url, form | {"address": "http://x.example.com/"})
    assert bad.status_code == 422
    assert "begins with https://" in bad.content.decode()
    made = alice.post(url, form)
    request = Request.objects.get(kind="probe.add")
    assert made.headers["Location"] == reverse("request", args=[request.pk])
    page = alice.get(reverse("key-dependents", args=["ledger-reader"])).content.decode()
    assert "no address is approved" in page
    assert "Ask over HTTP" in page
    house.say(house.cast.bob, request)
    house.work()

    page = alice.get(reverse("key-dependents", args=["ledger-reader"])).content.decode()
    assert PUBLIC in page
    assert "not asked yet" in page
    for name in ("probe-new", "probe-end"):
        place = reverse(name, args=["ledger-reader", row.pk])
        assert client_for(house.cast.mallory).post(place, form).status_code == 404
    ended = alice.post(reverse("probe-end", args=["ledger-reader", row.pk]))
    assert ended.status_code == 302
    assert Probe.objects.get().ended_at is not None
    assert alice.post(reverse("probe-end", args=["ledger-reader", row.pk])).status_code == 404


def test_a_page_registers_who_is_asked_over_http(house, client_for):
    house.create()
    form = {"agent": "", "name": "orders", "health": "probed", "wave": "0", "cache_s": "0"}

    client_for(house.cast.alice).post(reverse("dependent-new", args=["ledger-reader"]), form)

    assert Dependent.objects.get().health == Health.PROBED
