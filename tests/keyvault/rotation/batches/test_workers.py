"""Batches whose workers die, race and are overtaken: each key is begun once."""

from __future__ import annotations

import pytest
from django.db.models import Count

from approvals.models import Job
from approvals.ports import LostClaim
from keyvault.rotation import batches, progress, services, triggers
from keyvault.rotation.models import Rotation
from tests import races
from tests.keyvault.connections import fakes
from tests.keyvault.rotation.batches.conftest import (
    LIMIT,
    adds_up,
    ended,
    open_rotations,
    renewed,
    turn,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("kills", [1, 3])
def test_a_worker_that_dies_is_followed_and_no_key_is_begun_twice(
    some, batch, work, now, settings, kills
):
    settings.ROTATION_PER_CONNECTION = 100
    made = batch(some)
    claims = fakes.Claims(now, made.pk)
    for number in range(1, kills + 1):
        with pytest.raises(fakes.Crash):
            turn(made, now, claims=claims, crash_at="batch:settled")
        found = adds_up(made, len(some))
        assert (found.running, found.waiting) == (number, len(some) - number)

    assert turn(made, now, claims=claims) is False

    counted = Rotation.objects.values_list("key").annotate(count=Count("pk"))
    assert [count for _, count in counted] == [1] * len(some)
    assert Job.objects.filter(kind=services.JOB).count() == len(some)


def test_a_worker_that_was_overtaken_begins_nothing(some, batch, now):
    made = batch(some)
    claims = fakes.Claims(now, made.pk)
    slow = claims.claim()
    claims.claim()

    with pytest.raises(LostClaim):
        batches.run(made.pk, slow)

    assert not Rotation.objects.exists()
    assert adds_up(made, len(some)).waiting == len(some)


def test_two_batches_share_the_room_of_a_connection(some, batch, now):
    made = [batch(some[:4]), batch(some[4:])]

    racers = [races.Racer(lambda one=one: turn(one, now)) for one in made]
    for racer in racers:
        racer.finish()

    assert open_rotations().count() == LIMIT
    assert sum(progress.figures(one.pk).running for one in made) == LIMIT


def test_two_batches_of_the_same_keys_rotate_each_once(some, batch, work, now, settings):
    settings.ROTATION_PER_CONNECTION = 100
    first, second = batch(some[:2]), batch(some[:2])
    turn(first, now)
    for one in open_rotations():
        ended(work, one)
    renewed(some[0])
    renewed(some[1])

    turn(second, now)

    assert Rotation.objects.count() == 2
    assert set(second.keys.values_list("skipped", flat=True)) == {"renewed"}


def test_a_stop_and_a_worker_race_and_every_key_is_begun_or_left_out(
    some, batch, cast, now, settings
):
    settings.ROTATION_PER_CONNECTION = 100
    made = batch(some)

    racers = [
        races.Racer(lambda: turn(made, now)),
        races.Racer(
            lambda: progress.stop(person=cast.alice, batch_id=made.pk, reason="No.", now=now)
        ),
    ]
    racers[0].finish()
    racers[1].join(races.PATIENCE_S)

    assert racers[1].error is None or isinstance(racers[1].error, batches.NothingWaits)
    found = adds_up(made, len(some))
    assert found.waiting == 0
    assert found.running == Rotation.objects.count()


def test_a_lost_job_is_promised_again(some, batch, now):
    made = batch(some)
    Job.objects.filter(subject_id=made.pk).delete()

    triggers.run(now)
    triggers.run(now)

    assert Job.objects.filter(subject_id=made.pk, state="ready").count() == 1


def test_twenty_keys_end_once_each_while_workers_die_and_the_numbers_add_up(
    issued, batch, work, now, settings, fake
):
    settings.ROTATION_PER_CONNECTION = 5
    made = batch(issued(*(f"many-{number:02}" for number in range(20))))
    claims, looks = fakes.Claims(now, made.pk), 0
    waits = True
    while waits:
        with pytest.raises(fakes.Crash):
            turn(made, now, claims=claims, crash_at="batch:settled")
        adds_up(made, 20)
        waits = turn(made, now, claims=claims)
        assert open_rotations().count() <= 5
        for one in open_rotations():
            ended(work, one)
            found = adds_up(made, 20)
            assert found.done + found.open + found.waiting + found.skipped == 20
            looks += 1

    found = adds_up(made, 20)
    assert (found.done, found.is_over, looks) == (20, True, 20)
    counted = Rotation.objects.values_list("key").annotate(count=Count("pk"))
    assert [count for _, count in counted] == [1] * 20
    assert len(fake.alive()) == 20, "no old version works any more, and every new one does"
