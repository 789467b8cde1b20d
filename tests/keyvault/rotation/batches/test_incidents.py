"""An incident among many keys: it waits shorter, and cuts what open rotations wait for."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction

from approvals.models import Job
from keyvault.audit.models import Event
from keyvault.inventory.models import Key
from keyvault.rotation import batches, progress
from keyvault.rotation.models import BatchKey, Rotation
from tests import races
from tests.keyvault.rotation.batches.conftest import (
    LIMIT,
    adds_up,
    open_rotations,
    turn,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_incident_waits_shorter_and_keeps_the_lifetime_of_caches(some, batch, now, settings):
    settings.ROTATION_GRACE_SECONDS, settings.ROTATION_QUIET_SECONDS = 86_400, 300
    settings.ROTATION_INCIDENT_GRACE_SECONDS, settings.ROTATION_INCIDENT_QUIET_SECONDS = 900, 30

    turn(batch(some[:1], trigger="incident"), now)
    turn(batch(some[1:2]), now)

    cut, usual = (Rotation.objects.get(key=key).terms for key in some[:2])
    assert (cut["grace_s"], cut["quiet_s"], cut["overlap_s"]) == (900, 30, usual["overlap_s"])
    assert (usual["grace_s"], usual["quiet_s"]) == (86_400, 300)
    settings.ROTATION_GRACE_SECONDS = 60
    turn(batch(some[2:3], trigger="incident"), now)
    assert Rotation.objects.get(key=some[2]).terms["grace_s"] == 60, "it never waits longer"


def test_an_incident_cuts_what_an_open_rotation_waits_for(some, batch, now, settings):
    settings.ROTATION_GRACE_SECONDS, settings.ROTATION_QUIET_SECONDS = 86_400, 300
    settings.ROTATION_INCIDENT_GRACE_SECONDS, settings.ROTATION_INCIDENT_QUIET_SECONDS = 900, 30
    settings.ROTATION_BROWNOUT_SECONDS = 600
    turn(batch(some[:2]), now)
    usual = Rotation.objects.get(key=some[0]).terms

    turn(batch(some[:1]), now)
    assert Rotation.objects.get(key=some[0]).terms == usual, "it is no incident"
    for _ in range(2):
        incident = batch(some[:1], trigger="incident")
        turn(incident, now)

    terms = Rotation.objects.get(key=some[0]).terms
    assert terms == {**usual, "grace_s": 900, "quiet_s": 30, "brownout_s": 0}
    assert Rotation.objects.get(key=some[1]).terms == usual
    assert BatchKey.objects.get(batch=incident).skipped == "rotating"
    assert Event.objects.filter(event="rotation.hurried").count() == 1, "there was nothing to cut"


@pytest.fixture
def hasty(settings):
    settings.ROTATION_INCIDENT_GRACE_SECONDS = 10


def test_an_incident_cuts_open_rotations_although_they_take_all_the_room(some, batch, now, hasty):
    turn(batch(some[:LIMIT]), now)
    assert open_rotations().count() == LIMIT

    incident = batch(some[: LIMIT + 2], trigger="incident")
    assert turn(incident, now), "the others wait for room"

    cut = Event.objects.filter(event="rotation.hurried")
    assert sorted(cut.values_list("subject_label", flat=True)) == [key.name for key in some[:LIMIT]]
    adds_up(incident, LIMIT + 2)
    assert (progress.figures(incident.pk).skipped, open_rotations().count()) == (LIMIT, LIMIT)


def test_an_incident_leaves_alone_what_goes_back(some, batch, now, hasty):
    turn(batch(some[:2]), now)
    first, second = open_rotations().order_by("key__name")
    Rotation.objects.filter(pk=first.pk).update(state="rolling_back")
    Rotation.objects.filter(pk=second.pk).update(wants_back=True)

    incident = batch(some[:2], trigger="incident")

    assert not turn(incident, now)
    assert [one.terms for one in open_rotations()] == [first.terms, second.terms]
    skipped = BatchKey.objects.filter(batch=incident).values_list("skipped", flat=True)
    assert set(skipped) == {"rotating"}
    assert not Event.objects.filter(event="rotation.hurried").exists()


def test_an_incident_cuts_what_was_answered_by_a_hold_since_it_looked(some, batch, now, hasty):
    """It was wanted back when its job was locked; the old version had died, so it is held."""
    turn(batch(some[:1]), now)
    Rotation.objects.update(wants_back=True)
    incident = batch(some[:1], trigger="incident")

    with transaction.atomic():
        Key.objects.select_for_update().get(pk=some[0].pk)
        racer = races.Racer(lambda: turn(incident, now))
        races.await_somebody_waiting()
        Rotation.objects.update(wants_back=False)
        jobs = Job.objects.filter(subject_id=open_rotations().get().pk)
        assert not list(jobs.select_for_update(skip_locked=True)), "it is locked before the key"
    racer.finish()

    assert Event.objects.filter(event="rotation.hurried").count() == 1


def test_an_incident_locks_the_job_of_a_rotation_before_its_key(some, batch, now, hasty):
    """A worker of the rotation has locked its job, and is to lock the key."""
    turn(batch(some[:1]), now)
    rotation, incident = open_rotations().get(), batch(some[:1], trigger="incident")

    with transaction.atomic():
        Job.objects.select_for_update().get(subject_id=rotation.pk)
        racer = races.Racer(lambda: turn(incident, now))
        races.await_somebody_waiting()
        Key.objects.select_for_update(nowait=True).get(pk=some[0].pk)
        Rotation.objects.select_for_update(nowait=True).get(pk=rotation.pk)
    racer.finish()

    assert Event.objects.filter(event="rotation.hurried").count() == 1


def test_an_incident_comes_again_where_another_rotation_has_begun_meanwhile(
    some, batch, now, hasty, monkeypatch
):
    turn(batch(some[:1]), now)
    incident = batch(some[:1], trigger="incident")

    with monkeypatch.context() as patch:
        patch.setattr(batches.hurrying, "ring_open", lambda key_id: uuid4())
        assert turn(incident, now)

    assert not Event.objects.filter(event__in=["rotation.hurried", "rotation.skipped"]).exists()
    assert not turn(incident, now)
    assert Event.objects.filter(event="rotation.hurried").count() == 1
