"""A rotation and dependents that are asked over HTTP: proof, health, stuck ones, silence, the way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models import F
from django.urls import reverse
from django.utils import timezone

from approvals.models import Job
from keyvault.audit.models import Event
from keyvault.dependents import probes
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Health, Probe
from keyvault.dependents.probing import Address
from keyvault.providers.base import LastUse
from keyvault.rotation import choosing, reports, triggers
from keyvault.rotation.models import Delivery, Rotation
from keyvault.vault import selectors as versions
from tests.keyvault.agents import builders as agents
from tests.keyvault.dependents.test_probing import says
from tests.keyvault.destinations.memory import Places, installed
from tests.keyvault.outbound.test_ways_out import serving
from tests.keyvault.rotation.test_places import later
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)


class Service:
    """A service with an address of its own: `status` is how it is, `version` what it says it has."""

    def __init__(self, key):
        self.key, self.status, self.version, self.asked = key, 200, None, 0

    def __call__(self, handler):
        self.asked += 1
        named = f'{{"keyvault": {{"{self.key}": {self.version}}}}}' if self.version else "{}"
        says(self.status, named.encode())(handler)


@pytest.fixture(autouse=True)
def _watched(fake):
    """Have the provider tell when a credential was last in use: never."""
    can = fake.capabilities
    fake.capabilities = lambda ctx: replace(can(ctx), reports_last_use=True)
    fake.last_use = lambda _ctx, _key: LastUse(None, 0)


@pytest.fixture
def service(key):
    made = Service(key.name)
    with serving(made) as server:
        made.address = f"http://127.0.0.1:{server.server_address[1]}"
        yield made


@pytest.fixture
def dependent(key, cast, service):
    """A service that keyvault asks over HTTP which version it has."""
    with transaction.atomic():
        row = dependents.register(
            key=key, name="orders", health=Health.PROBED, now=cast.now, actor=WORKER
        )
        _ask(row, service, cast)
    return row


def _ask(row, service, cast):
    probes.put(
        dependent=row,
        address=Address(f"{service.address}/health", service.address),
        request_id=uuid4(),
        actor=WORKER,
        now=cast.now,
    )


@pytest.fixture
def look(work):
    """Run the job again, as if a second had passed since the address was asked."""

    def call(rotation, *, seconds=2):
        past = timedelta(seconds=seconds)
        for name in ("asked_at", "bad_since"):
            rows = Probe.objects.exclude(**{name: None})
            rows.update(**{name: F(name) - past})
        Rotation.objects.filter(pk=rotation.pk).update(since=F("since") - past)
        return work(rotation)

    return call


def state(rotation):
    return Delivery.objects.get(rotation=rotation, dependent__name="orders").state


def settle(rotation, look):
    """Confirm whoever else is waited for, and look again."""
    now = timezone.now()
    for one in Delivery.objects.filter(rotation=rotation, dependent__health="by_hand"):
        choosing.confirm(delivery_id=one.pk, actor=WORKER, now=now)
    return look(rotation)


def test_an_answer_that_names_the_new_version_confirms_it(begin, work, look, dependent, service):
    service.version = 1
    rotation = begin()
    assert work(rotation).state == "promoting"
    assert Delivery.objects.get(dependent=dependent).was_healthy is True
    assert settle(rotation, look).state == "promoting"
    assert state(rotation) == "restarting", "it is well, but it names the old version"

    service.version = 2
    moved = look(rotation)

    assert (moved.state, state(rotation)) == ("draining", "confirmed")
    line = Event.objects.filter(event="rotation.delivered", fields__dependent="orders").last()
    assert line.fields["state"] == "confirmed"


def test_health_alone_is_no_proof_of_a_version(begin, work, look, dependent, service):
    rotation = begin()
    work(rotation)
    settle(rotation, look)

    assert (look(rotation).state, state(rotation)) == ("promoting", "restarting")
    later(rotation, 101)
    held = look(rotation)
    assert (held.state, held.cause) == ("held", "unconfirmed")
    assert "orders" in held.sentence


def test_a_version_that_was_named_before_the_move_proves_nothing(
    begin, work, look, dependent, service
):
    service.version = 2
    rotation = begin()
    work(rotation)
    Probe.objects.update(named_at=F("named_at") - timedelta(hours=1), asked_at=timezone.now())
    Delivery.objects.filter(dependent=dependent).update(state="restarting")
    service.version = None

    settle(rotation, look)

    assert state(rotation) == "restarting"


def test_one_bad_answer_and_none_at_all_send_nothing_back(begin, work, look, dependent, service):
    service.version = 1
    rotation = begin()
    work(rotation)
    settle(rotation, look)

    service.status = 503
    assert look(rotation, seconds=15).state == "promoting", "once"
    service.status = 429
    for _ in range(4):
        assert look(rotation, seconds=15).state == "promoting", "no answer of use"
    assert Probe.objects.get().bad_count == 1
    service.status, service.version = 200, 2
    assert look(rotation).state == "draining"


def test_who_was_well_and_answers_badly_again_and_again_sends_it_back(
    begin, work, look, dependent, service, fake, key
):
    service.version = 1
    rotation = begin()
    work(rotation)
    settle(rotation, look)
    service.status = 503
    for _ in range(3):
        assert look(rotation).state == "promoting", "not for half a minute yet"

    back = look(rotation, seconds=40)

    assert (back.state, back.cause) == ("rolling_back", "failed")
    assert "orders is not well" in back.sentence
    assert len(fake.alive()) == 2, "it may still have the new version until it names another"
    service.status = 200
    assert settle(rotation, look).state == "rolled_back"
    assert versions.current(key.pk).number == 1


def test_a_service_that_still_names_the_new_version_keeps_it_alive(
    begin, work, look, dependent, service, fake, now
):
    service.version = 1
    rotation = begin()
    work(rotation)
    service.version = 2
    settle(rotation, look)
    choosing.roll_back(rotation_id=rotation.pk, reason="It is slow.", actor=WORKER, now=now)
    assert look(rotation).state == "rolling_back"
    settle(rotation, look)
    assert look(rotation).state == "rolling_back"
    assert len(fake.alive()) == 2

    service.version = 1
    assert look(rotation).state == "rolled_back"
    assert len(fake.alive()) == 1


def test_who_was_ill_before_holds_it_and_does_not_send_it_back(
    begin, work, look, dependent, service
):
    service.status = 503
    rotation = begin()
    work(rotation)
    assert Delivery.objects.get(dependent=dependent).was_healthy is False
    settle(rotation, look)
    for _ in range(5):
        assert look(rotation, seconds=10).state == "promoting"
    later(rotation, 101)
    assert look(rotation).state == "held"


def test_a_held_rotation_asks_again_by_the_clock_and_goes_on(begin, work, look, dependent, service):
    rotation = begin()
    work(rotation)
    settle(rotation, look)
    later(rotation, 101)
    assert look(rotation).state == "held"
    asked, now = service.asked, timezone.now() + timedelta(seconds=1)
    triggers.run(now)
    waits = Job.objects.get(subject_id=rotation.pk, state="ready").due_at - timezone.now()
    assert waits > timedelta(seconds=50), "not more often than once a minute"

    service.version = 2
    Probe.objects.update(asked_at=F("asked_at") - timedelta(minutes=2))
    triggers.run(now)
    work(rotation)

    assert service.asked == asked + 1
    assert look(rotation).state == "draining"


def test_a_held_rotation_that_asks_again_adds_no_job(begin, work, look, dependent, service):
    rotation = begin()
    work(rotation)
    settle(rotation, look)
    later(rotation, 101)
    assert look(rotation).state == "held"
    asked, jobs = service.asked, Job.objects.filter(subject_id=rotation.pk)
    count = jobs.count()

    for _ in range(3):
        Probe.objects.update(asked_at=F("asked_at") - timedelta(minutes=2))
        triggers.run(timezone.now() + timedelta(seconds=1))
        assert jobs.get(state="ready").due_at <= timezone.now()
        work(rotation)

    assert (service.asked, jobs.count()) == (asked + 3, count)


def test_an_address_is_asked_at_most_once_a_second(begin, work, dependent, service):
    rotation = begin()
    work(rotation)
    before = service.asked
    for _ in range(5):
        work(rotation)

    assert service.asked <= before + 1


def test_without_an_approved_address_the_rotation_is_held(begin, work, look, dependent, service):
    with transaction.atomic():
        assert probes.end(dependent=dependent, actor=WORKER, now=timezone.now())
    rotation = begin()
    work(rotation)
    settle(rotation, look)
    later(rotation, 101)

    assert work(rotation).state == "held"
    assert service.asked == 0
    assert Event.objects.filter(event="dependent.probe_ended").count() == 1


def test_a_place_has_moved_only_when_its_address_is_well_since(
    begin, work, look, key, cast, service
):
    with installed(Places()) as places:
        where = rows.connection(cast, provider=places.kind, slug="shelf")
        with transaction.atomic():
            row = dependents.register_place(
                key=key,
                name="orders",
                connection=where,
                target={"place": "orders"},
                wave=0,
                cache_s=0,
                request_id=uuid4(),
                now=cast.now,
                actor=WORKER,
            )
            _ask(row, service, cast)
        rotation = begin()
        service.status = 503
        Probe.objects.update(asked_at=timezone.now(), answer="healthy", healthy_at=timezone.now())
        assert work(rotation).state == "promoting"
        assert state(rotation) == "restarting", "the place shows it, and its address is not well"
        told = Event.objects.filter(event="rotation.delivered").count()
        look(rotation)
        look(rotation)
        assert Event.objects.filter(event="rotation.delivered").count() == told, "no news"

        service.status = 200
        look(rotation)
        assert state(rotation) == "confirmed", "it need not name a version: the place shows it"


def test_its_page_says_what_the_address_has_said_last(
    begin, work, dependent, service, client_for, cast
):
    service.version = 1
    rotation = begin()
    work(rotation)
    page = reverse("rotation", args=[rotation.pk])

    shown = client_for(cast.frank).get(page).content.decode()

    assert "Asked over HTTP: healthy, names v1" in shown
    Probe.objects.update(answer="none", number=None, named_at=None)
    assert "Asked over HTTP: no usable answer" in client_for(cast.frank).get(page).content.decode()


def test_an_agent_that_is_asked_over_http_confirms_by_nothing_else(
    begin, work, key, cast, service, now
):
    agent = agents.agent(cast)
    with transaction.atomic():
        row = dependents.register(
            key=key,
            name="orders",
            agent_id=agent.pk,
            health=Health.PROBED,
            now=cast.now,
            actor=WORKER,
        )
        _ask(row, service, cast)
    rotation = begin()
    work(rotation)

    with pytest.raises(reports.NotHeard, match="asked over HTTP"):
        reports.confirm(
            rotation_id=rotation.pk, agent_id=agent.pk, number=2, is_healthy=True, now=now
        )


@pytest.fixture
def many(key, cast, service):
    """More services than are asked at one look."""
    with transaction.atomic():
        for number in range(probes.MOST + 3):
            row = dependents.register(
                key=key,
                name=f"orders-{number}",
                health=Health.PROBED,
                now=cast.now,
                actor=WORKER,
            )
            _ask(row, service, cast)


def test_everybody_is_asked_before_the_move_however_many(begin, work, many, service):
    rotation = begin()

    assert work(rotation).state == "promoting"

    moved = Delivery.objects.filter(rotation=rotation, dependent__health="probed", has_new=True)
    assert moved.count() == probes.MOST + 3
    assert set(moved.values_list("was_healthy", flat=True)) == {True}


def test_many_addresses_are_asked_some_at_a_look_and_all_in_the_end(
    begin, work, look, many, service
):
    rotation = begin()
    service.version = 2

    with transaction.atomic():
        ids = [one.dependent_id for one in Delivery.objects.filter(rotation=rotation)]
    assert len(probes.due(ids)) == probes.MOST
    work(rotation)
    settle(rotation, look)
    look(rotation)

    confirmed = Delivery.objects.filter(
        rotation=rotation, state="confirmed", dependent__health="probed"
    )
    assert confirmed.count() == probes.MOST + 3
