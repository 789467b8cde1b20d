"""Many keys at once: in order of risk, within the limit, each once, and numbers that add up."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import Count
from django.test.utils import CaptureQueriesContext

from approvals.models import Job
from approvals.ports import Later, LostClaim, NotVisible
from keyvault.audit.models import Event
from keyvault.connections import issuing
from keyvault.connections.models import Connection
from keyvault.inventory.models import DeliveryMode, Key
from keyvault.providers.base import Shape
from keyvault.rotation import batches, progress, services, triggers
from keyvault.rotation.models import BatchKey, Rotation, RotationBatch
from tests import races
from tests.keyvault.connections import fakes
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)
LIMIT = 3


@pytest.fixture(autouse=True)
def limit(settings, terms):
    settings.ROTATION_PER_CONNECTION = LIMIT


@pytest.fixture
def issued(cast, where, now):
    """Return a function that makes live keys; those that agents fetch have nobody to wait for."""

    def make(*names, connection=where, **more):
        found = []
        for name in names:
            request_id = uuid4()
            key = rows.key(cast, connection, name=name, request_id=request_id, **more)
            claims = fakes.Claims(now, request_id)
            issuing.issue(key=key, request_id=request_id, run=claims.claim(), actor=WORKER)
            key.delivery_mode, key.state, key.live_at = DeliveryMode.PULL, "live", now
            key.expires_at = now.replace(year=now.year + 1)
            key.save()
            found.append(key)
        return found

    return make


@pytest.fixture
def some(issued):
    return issued(*(f"agent-{number:02}" for number in range(8)))


@pytest.fixture
def batch(cast, now):
    """Return a function that writes a batch down."""

    def make(keys, trigger="manual"):
        with transaction.atomic():
            return batches.create(
                batch_id=uuid4(),
                key_ids=[key.pk for key in keys],
                trigger=trigger,
                reason="The vendor was broken into.",
                request_id=uuid4(),
                person=cast.alice,
                started_by="Alice",
                actor=WORKER,
                now=now,
            )

    return make


def turn(made, now, *, crash_at="", claims=None):
    """Run the job of a batch once; say whether keys still wait."""
    run = (claims or fakes.Claims(now, made.pk)).claim(crash_at=crash_at)
    try:
        batches.run(made.pk, run)
    except Later:
        return True
    return False


def ended(work, rotation):
    """Bring a rotation to its end, whatever it waits for."""
    from tests.keyvault.rotation.test_running import later

    for _ in range(6):
        found = work(rotation)
        if found.ended_at:
            return found
        later(found, 5)
    raise AssertionError(f"the rotation is {found.state}: {found.sentence}")


def open_rotations():
    return Rotation.objects.filter(ended_at=None)


def adds_up(made, count):
    found = progress.figures(made.pk)
    assert found.total == count, found
    return found


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


def renewed(key):
    from django.utils import timezone

    from keyvault.vault import selectors as versions

    current = versions.current(key.pk)
    current.issued_at = timezone.now().replace(year=timezone.now().year + 1)
    current.save()


def test_values_that_end_by_themselves_are_left_alone(some, batch, now, fake):
    made = batch(some[:1])
    fake.shape = Shape.EPHEMERAL

    turn(made, now)

    assert made.keys.get().skipped == "short_lived"


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


def test_a_batch_waits_at_one_connection_and_goes_on_at_another(issued, batch, cast, fake, now):
    from tests.keyvault.connections.conftest import with_credential

    there = with_credential(rows.connection(cast, provider=fake.kind, slug="there"), now)
    here = issued(*(f"here-{number}" for number in range(LIMIT + 2)))
    others = issued("there-1", connection=there)
    made = batch([*here, *others])

    turn(made, now)

    assert open_rotations().filter(key__connection=there).count() == 1
    assert open_rotations().exclude(key__connection=there).count() == LIMIT


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


def test_a_lost_job_is_promised_again(some, batch, now):
    made = batch(some)
    Job.objects.filter(subject_id=made.pk).delete()

    triggers.run(now)
    triggers.run(now)

    assert Job.objects.filter(subject_id=made.pk, state="ready").count() == 1


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


def test_the_numbers_of_a_batch_are_one_statement(some, batch):
    made = batch(some)

    with CaptureQueriesContext(connection) as found:
        progress.figures(made.pk)

    assert len(found) == 1
    assert BatchKey.objects.filter(batch=made).count() == len(some)
    assert Connection.objects.count() == 1
