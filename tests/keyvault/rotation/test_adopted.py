"""The first rotation of an adopted key: it works, and what no call can end is left to a person."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction

from approvals.ports import NeedsPerson
from keyvault.audit.models import Event
from keyvault.connections import adopting, intake, reconcile, revoking, selectors, shadows
from keyvault.findings.models import Finding
from keyvault.inventory.models import DeliveryMode, Key
from keyvault.providers.base import RemoteKey
from keyvault.rotation import choosing
from keyvault.rotation.models import Delivery
from keyvault.rotation.sight import is_observable
from keyvault.vault import selectors as versions
from keyvault.vault.models import Version
from tests.keyvault.rotation.test_running import later
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)
VALUE = "sk-adopted-canary-77"


@pytest.fixture
def remote_id():
    """The id at the provider that is known of the adopted value: none."""
    return ""


@pytest.fixture
def key(cast, where, fake, request_id, remote_id):
    """A live key of a value that people brought."""
    fake.value_field, fake.takes_listed = "password", True
    made = rows.key(cast, where, request_id=request_id)
    with transaction.atomic():
        if remote_id:
            seen = RemoteKey(remote_id, is_enabled=True)
            fake.keys[remote_id], fake.values[remote_id] = seen, VALUE.encode()
            shadows.note(connection=where, foreign=[seen], now=cast.now)
        more = {"actor": WORKER, "now": cast.now}
        adopting.propose(key=made, value=VALUE, remote_id=remote_id, **more)
        adopting.bind(key_ids=[made.pk], request_id=request_id)
        adopting.take(key=made, request_id=request_id, **more)
    made.state, made.live_at = "live", cast.now
    made.expires_at = cast.now.replace(year=cast.now.year + 1)
    made.save()
    return made


@pytest.fixture
def drained(begin, work, now):
    """Rotate a key until everybody has the new version and the old one has been silent."""

    def call():
        rotation = begin()
        assert work(rotation).state == "promoting"
        for delivery in Delivery.objects.filter(rotation=rotation):
            choosing.confirm(delivery_id=delivery.pk, actor=WORKER, now=now)
        work(rotation)
        later(rotation, 5)
        return work(rotation)

    return call


@pytest.fixture
def go_on(work, now):
    """Let a rotation go on without proof, as an approved request does."""

    def call(rotation):
        with transaction.atomic():
            choosing.go_on(rotation_id=rotation.pk, actor=WORKER, now=now, request_id=uuid4())
        return work(rotation)

    return call


def test_the_new_version_is_issued_and_the_old_one_is_left_to_a_person(
    key, drained, go_on, work, cast, fake, now
):
    held = drained()
    assert (held.state, held.cause) == ("held", "unobserved")
    assert versions.current(key.pk).number == 2

    revoking_it = go_on(held)

    assert revoking_it.state == "revoking"
    assert "revoke" not in fake.calls
    assert selectors.awaits_confirmation(key.pk)
    task = intake.task(key=key, person=cast.alice)
    assert (task.act, "credential with the adopted value" in task.steps[0]) == ("revoke", True)
    intake.confirm_revoked(key=key, person=cast.alice, now=now)
    assert work(revoking_it).state == "completed"
    old = Version.objects.get(key=key, number=1)
    assert old.state == "revoked"
    assert len(fake.alive()) == 1


def test_silence_at_the_gateway_proves_nothing_of_a_value_that_was_elsewhere(key):
    key.delivery_mode = DeliveryMode.PULL
    first = versions.current(key.pk)

    assert is_observable(key, None, [])
    assert not is_observable(key, first, [])


def test_a_rotation_leads_back_to_the_adopted_value(key, begin, work, now, fake):
    rotation = begin()
    work(rotation)

    choosing.roll_back(rotation_id=rotation.pk, reason="not yet", actor=WORKER, now=now)

    assert work(rotation, tries=3).state == "rolled_back"
    assert versions.current(key.pk).number == 1
    assert fake.alive() == []


@pytest.mark.parametrize("remote_id", ["ext-1"])
def test_a_value_with_its_id_is_ended_by_a_call(key, drained, go_on, fake):
    assert len(fake.alive()) == 1

    done = go_on(drained())

    assert done.state == "completed"
    assert [one.remote_id for one in fake.alive()] == [versions.current(key.pk).remote_id]


def test_revoking_the_key_waits_for_a_person_and_says_why(key, claims, now, cast, fake):
    fresh = Key.objects.select_related("connection").get(pk=key.pk)
    asked = uuid4()

    def revoke():
        revoking.revoke(key=fresh, request_id=asked, run=claims.claim(), actor=WORKER)

    with pytest.raises(NeedsPerson, match="adopted without its id") as held:
        revoke()
    assert held.value.code == "by_hand"
    assert fake.calls == []
    intake.confirm_revoked(key=fresh, person=cast.alice, now=now)
    revoke()

    assert versions.live(key.pk) == []
    cause = Event.objects.get(event="version.revoked").fields["cause"]
    assert "confirmed by Alice" in cause


def test_a_look_at_the_provider_calls_no_adopted_value_dead_or_moved(key, where, claims):
    reconcile.look(where.pk, claims.claim())

    assert not Finding.objects.exists()


@pytest.mark.parametrize("remote_id", ["ext-1"])
def test_an_adopted_credential_with_an_id_that_is_gone_is_named(key, where, claims, fake):
    fake.keys.clear()

    reconcile.look(where.pk, claims.claim())

    assert Finding.objects.get().kind == "dead"
