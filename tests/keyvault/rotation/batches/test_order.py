"""Many keys at once: in order of risk, within the limit, what is left out, and numbers that add up."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from approvals.models import Job
from approvals.ports import NotVisible
from keyvault.audit.models import Event
from keyvault.connections.models import Connection
from keyvault.inventory.models import Key
from keyvault.providers.base import Shape
from keyvault.rotation import batches, progress
from keyvault.rotation.models import BatchKey, Rotation, RotationBatch
from tests.keyvault.rotation.batches.conftest import (
    LIMIT,
    adds_up,
    ended,
    open_rotations,
    renewed,
    turn,
)
from tests.keyvault.vault import rows

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_riskiest_come_first_and_never_more_than_the_limit(issued, batch, work, now):
    calm = issued("calm-1", "calm-2", allowed_hosts=["db.example.com"])
    wild = issued("wild-1", "wild-2", external_input=True)
    made = batch([*calm, *wild])

    assert turn(made, now) is True

    assert [row.key.name for row in made.keys.all()] == ["wild-1", "wild-2", "calm-1", "calm-2"]
    assert {one.key.name for one in open_rotations()} == {"wild-1", "wild-2", "calm-1"}
    found = adds_up(made, 4)
    assert (found.waiting, found.running, found.done) == (1, 3, 0)
    [full] = progress.limits(made.pk)
    assert (full.waiting, full.open, full.held, full.is_full) == (1, 3, 0, True)

    ended(work, Rotation.objects.get(key=wild[0]))
    assert turn(made, now) is False

    assert Rotation.objects.filter(key=calm[1]).exists()
    for one in open_rotations():
        ended(work, one)
    found = adds_up(made, 4)
    assert (found.done, found.is_over) == (4, True)
    assert progress.ended_at(made.pk) is not None


def test_the_end_of_a_rotation_has_the_batch_look_at_once(some, batch, work, now):
    made = batch(some[: LIMIT + 1])
    turn(made, now)
    Job.objects.filter(subject_id=made.pk).update(due_at=now.replace(year=now.year + 1))

    ended(work, open_rotations().first())

    assert Job.objects.get(subject_id=made.pk).due_at.year <= now.year + 1
    assert Job.objects.filter(subject_id=made.pk, due_at__lt=now.replace(year=now.year + 1))


def test_what_cannot_be_rotated_is_skipped_with_its_reason(
    issued, batch, begin, cast, now, fake, monkeypatch
):
    busy, gone, fresh, fine = issued("busy", "gone", "fresh", "fine")
    by_hand = rows.connection(cast, provider="manual", slug="console")
    unloaded = rows.connection(cast, provider="nowhere", slug="nowhere")
    pasted, lost = issued("pasted", "lost")
    Key.objects.filter(pk=pasted.pk).update(connection=by_hand)
    Key.objects.filter(pk=lost.pk).update(connection=unloaded)
    made = batch([busy, gone, fresh, fine, pasted, lost])
    running = begin(busy)
    Key.objects.filter(pk=gone.pk).update(state="revoked", revoked_at=now)
    renewed(fresh)

    while turn(made, now):
        pass

    assert {row.key.name: row.skipped for row in made.keys.all()} == {
        "busy": "rotating",
        "gone": "ended",
        "fresh": "renewed",
        "fine": "",
        "pasted": "by_hand",
        "lost": "no_provider",
    }
    assert set(open_rotations().values_list("key__name", flat=True)) == {"busy", "fine"}
    assert Rotation.objects.get(key=busy).pk == running.pk
    found = adds_up(made, 6)
    assert (found.running, found.skipped) == (1, 5)
    assert progress.skips(made.pk)["by_hand"] == 1
    told = Event.objects.filter(event="rotation.skipped").values_list("fields__cause", flat=True)
    assert set(told) == {"rotating", "ended", "renewed", "by_hand", "no_provider"}


def test_values_that_end_by_themselves_are_left_alone(some, batch, now, fake):
    made = batch(some[:1])
    fake.shape = Shape.EPHEMERAL

    turn(made, now)

    assert made.keys.get().skipped == "short_lived"


def test_a_batch_waits_at_one_connection_and_goes_on_at_another(issued, batch, cast, fake, now):
    from tests.keyvault.connections.conftest import with_credential

    there = with_credential(rows.connection(cast, provider=fake.kind, slug="there"), now)
    here = issued(*(f"here-{number}" for number in range(LIMIT + 2)))
    others = issued("there-1", connection=there)
    made = batch([*here, *others])

    turn(made, now)

    assert open_rotations().filter(key__connection=there).count() == 1
    assert open_rotations().exclude(key__connection=there).count() == LIMIT


def test_stopping_leaves_out_what_waits_and_nothing_else(some, batch, work, cast, now):
    made = batch(some)
    turn(made, now)

    count = progress.stop(person=cast.alice, batch_id=made.pk, reason="Enough.", now=now)

    assert count == len(some) - LIMIT
    found = adds_up(made, len(some))
    assert (found.running, found.skipped, found.waiting) == (LIMIT, count, 0)
    assert turn(made, now) is False
    assert Rotation.objects.count() == LIMIT
    row = RotationBatch.objects.get(pk=made.pk)
    assert (row.stopped_by, row.stopped_for) == ("Alice", "Enough.")
    assert Event.objects.get(event="rotation.batch_stopped").fields["left"] == count
    with pytest.raises(batches.NothingWaits):
        progress.stop(person=cast.alice, batch_id=made.pk, reason="Again.", now=now)


def test_who_neither_asked_nor_may_rotate_all_sees_and_stops_nothing(some, batch, cast, now):
    made = batch(some)

    assert progress.batch(cast.alice, made.pk) == made
    assert progress.batch(cast.dave, made.pk) == made, "an auditor looks"
    with pytest.raises(NotVisible):
        progress.batch(cast.mallory, made.pk)
    for person in (cast.dave, cast.mallory):
        with pytest.raises(NotVisible):
            progress.stop(person=person, batch_id=made.pk, reason="No.", now=now)
    assert progress.may_stop(cast.frank, made), "an administrator stops"


def test_a_rotation_that_waits_its_turn_at_a_connection_is_not_held_for_it(
    some, batch, work, now, monkeypatch
):
    from keyvault.connections import turns

    monkeypatch.setattr(turns, "_WAIT_S", 0)
    monkeypatch.setattr(turns, "AT_ONCE", 1)
    turns._gates.clear()
    made = batch(some[:1])
    turn(made, now)
    rotation = open_rotations().get()

    with turns.turn(some[0].connection_id):
        for _ in range(8):
            assert work(rotation).state == "creating"

    assert Job.objects.get(subject_id=rotation.pk).attempts == 0
    turns._gates.clear()
    assert ended(work, rotation).state == "completed"


def test_the_numbers_of_a_batch_are_one_statement(some, batch):
    made = batch(some)

    with CaptureQueriesContext(connection) as found:
        progress.figures(made.pk)

    assert len(found) == 1
    assert BatchKey.objects.filter(batch=made).count() == len(some)
    assert Connection.objects.count() == 1
