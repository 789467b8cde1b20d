"""What the clock begins: once per due time, whatever else happens."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from approvals import queue
from approvals.models import Job
from keyvault.dependents import services as dependents
from keyvault.findings.models import Finding, FindingKind
from keyvault.rotation import choosing, services, triggers
from keyvault.rotation.models import Rotation
from tests import races
from tests.keyvault.agents import builders
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def due(key, now, terms):
    """The key, whose rotation is due."""
    key.rotation_due_at, key.rotation_cause = now - timedelta(minutes=1), "cadence"
    key.save()
    return key


def test_a_due_key_is_rotated_once(due, now):
    assert triggers.run(now) == 1
    assert triggers.run(now) == 0

    rotation = Rotation.objects.get(key=due)
    assert (rotation.trigger, rotation.slot) == ("cadence", due.rotation_due_at)
    assert rotation.request_id == due.request_id


def test_a_key_that_is_not_due_is_left_alone(key, now, terms):
    key.rotation_due_at = now + timedelta(minutes=1)
    key.save()
    assert triggers.run(now) == 0


def test_a_rotation_that_went_back_is_not_begun_again_for_the_same_time(due, work, now):
    triggers.run(now)
    rotation = Rotation.objects.get(key=due)
    work(rotation)
    choosing.roll_back(rotation_id=rotation.pk, reason="no", actor=WORKER, now=now)
    assert work(rotation).state == "rolled_back"

    assert triggers.run(now) == 0

    due.rotation_due_at = now
    due.save()
    assert triggers.run(now) == 1


def test_what_cannot_begin_does_not_take_the_room_of_what_can(due, cast, now, monkeypatch):
    monkeypatch.setattr(triggers, "AT_ONCE", 1)
    gone = rows.connection(cast, provider="gone", slug="gone")
    early = now - timedelta(days=1)
    rows.key(
        cast,
        gone,
        name="other",
        state="live",
        live_at=early,
        expires_at=now + timedelta(days=30),
        rotation_due_at=early,
    )

    assert triggers.run(now) == 1
    assert Rotation.objects.get().key == due


def test_a_key_that_fails_keeps_no_other_from_its_day(due, now, monkeypatch, cast):
    begin, failed = services.begin, []

    def begin_after_a_fault(**given):
        if not failed:
            failed.append(given["key_id"])
            raise ValueError("canary-value")
        return begin(**given)

    monkeypatch.setattr(services, "begin", begin_after_a_fault)
    early = now - timedelta(days=1)
    other = rows.key(
        cast,
        due.connection,
        name="other",
        state="live",
        live_at=early,
        expires_at=now + timedelta(days=30),
        rotation_due_at=early,
    )

    assert triggers.run(now) == 1
    assert failed == [other.pk]
    assert Rotation.objects.get().key == due


def test_the_name_of_the_hand_may_be_taken(due, now, cast):
    with transaction.atomic():
        dependents.register(
            key=due,
            name=dependents.BY_HAND_NAME,
            health="reads",
            agent_id=builders.agent(cast).pk,
            now=now,
            actor=WORKER,
        )

    assert triggers.run(now) == 1
    assert Rotation.objects.get().deliveries.count() == 2


def test_a_revoked_key_is_never_rotated(due, now):
    due.state, due.revoked_at = "revoked", now
    due.save()
    assert triggers.run(now) == 0


def test_two_clocks_begin_one_rotation(due, now):
    clocks = [races.Racer(lambda: triggers.run(now)) for _ in range(2)]
    for clock in clocks:
        clock.finish()

    assert Rotation.objects.filter(key=due).count() == 1


def test_two_people_begin_one_rotation(key, begin):
    refused = []

    def press():
        try:
            begin()
        except services.AlreadyRotating as error:
            refused.append(error.rotation_id)

    people = [races.Racer(press) for _ in range(2)]
    for person in people:
        person.finish()

    assert refused == [Rotation.objects.get(key=key).pk]


def test_a_job_that_was_lost_is_promised_again(begin, now):
    rotation = begin()
    Job.objects.filter(subject_id=rotation.pk).delete()

    triggers.run(timezone.now() + timedelta(seconds=1))

    assert Job.objects.get(subject_id=rotation.pk).state == "ready"


def test_a_job_whose_workers_died_six_times_holds_its_rotation(begin, now):
    rotation = begin()
    Job.objects.filter(subject_id=rotation.pk).update(
        state="held", code="crashed", sentence="The worker died in every one of six tries."
    )

    triggers.run(timezone.now() + timedelta(seconds=1))

    rotation.refresh_from_db()
    assert (rotation.state, rotation.held_from) == ("held", "planned")
    assert Finding.objects.filter(kind=FindingKind.ROTATION, closed_at=None).count() == 1


def test_a_rotation_is_held_however_many_other_jobs_are(begin, now):
    rotation = begin()
    Job.objects.filter(subject_id=rotation.pk).update(state="held", code="crashed", sentence="x")
    Job.objects.bulk_create(
        Job(kind="dependent.deliver", subject_id=uuid4(), state="held") for _ in range(201)
    )

    triggers.run(timezone.now() + timedelta(seconds=1))

    rotation.refresh_from_db()
    assert rotation.state == "held"


def test_a_job_that_waits_for_a_pasted_value_is_left_waiting(begin, now):
    rotation = begin()
    Job.objects.filter(subject_id=rotation.pk).update(
        state="held", code="intake", sentence="Paste."
    )

    triggers.run(timezone.now() + timedelta(seconds=1))

    rotation.refresh_from_db()
    assert rotation.state == "planned"


@pytest.mark.parametrize("state", ["held", "planned"])
def test_the_rotation_of_a_revoked_key_ends_whoever_it_waits_for(key, begin, work, now, state):
    rotation = begin()
    Job.objects.filter(subject_id=rotation.pk).update(
        state="held", code="intake", sentence="Paste."
    )
    if state == "held":
        Rotation.objects.filter(pk=rotation.pk).update(state="held", held_from="creating")
    key.state, key.revoked_at = "revoked", now
    key.save()

    triggers.run(timezone.now() + timedelta(seconds=1))

    ended = work(rotation)
    assert (ended.state, ended.cause) == ("rolled_back", "key_ended")
    assert not Finding.objects.filter(kind=FindingKind.ROTATION, closed_at=None).exists()


def test_a_person_and_a_worker_race_at_the_point_of_no_return(begin, work, key, fake, now):
    """Either it goes back and the old version works, or it is told that it is too late."""
    rotation = begin()
    work(rotation)
    Rotation.objects.filter(pk=rotation.pk).update(state="draining", may_go_on=True)
    outcome = []

    def back():
        try:
            choosing.roll_back(rotation_id=rotation.pk, reason="wait", actor=WORKER, now=now)
        except services.WrongMoment:
            outcome.append("too late")
        else:
            outcome.append("noted")

    def go():
        with transaction.atomic():
            queue.enqueue(kind=services.JOB, subject_id=rotation.pk)
        work(rotation)

    contenders = [races.Racer(back), races.Racer(go)]
    for one in contenders:
        one.finish()

    ended = work(rotation, tries=2)
    number = {"completed": 2, "rolled_back": 1}[ended.state]
    alive = [one.remote_id for one in fake.alive()]
    from keyvault.vault import selectors as versions

    assert alive == [versions.current(key.pk).remote_id]
    assert versions.current(key.pk).number == number
    assert outcome == (["noted"] if number == 1 else ["too late"])
