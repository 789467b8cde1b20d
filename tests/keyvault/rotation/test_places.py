"""A rotation at places that keyvault writes to: waves, canary, faults, foreign values, the way back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from approvals import queue
from approvals.models import Job
from keyvault.audit.models import Event
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent, Push
from keyvault.destinations.base import Health, State
from keyvault.findings.models import Finding, FindingKind
from keyvault.providers.base import LastUse
from keyvault.rotation import choosing, delivering
from keyvault.rotation.models import Delivery, Rotation
from keyvault.vault import selectors as versions
from tests.keyvault.connections import fakes
from tests.keyvault.destinations.memory import Places, installed
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _watched(fake):
    """Have the provider tell when a credential was last in use: never."""
    can = fake.capabilities
    fake.capabilities = lambda ctx: replace(can(ctx), reports_last_use=True)
    fake.last_use = lambda _ctx, _key: LastUse(None, 0)


@pytest.fixture
def places():
    with installed(Places()) as made:
        yield made


@pytest.fixture
def account(cast, places):
    return rows.connection(cast, provider=places.kind, slug="shelf")


@pytest.fixture
def push(key, account, cast, run_job):
    """Register a place for the key and write its current version there."""

    def call(name, *, wave=0, cache_s=0, write=True):
        with transaction.atomic():
            row = dependents.register_place(
                key=key,
                name=name,
                connection=account,
                target={"place": name},
                wave=wave,
                cache_s=cache_s,
                request_id=uuid4(),
                now=cast.now,
                actor=WORKER,
            )
            delivering.promise(row.pk)
        if write:
            run_job(row)
        row.refresh_from_db()
        return row

    return call


@pytest.fixture
def run_job(now):
    """Run every open job of one subject once; return the state it is left in."""

    def call(subject):
        for job in Job.objects.filter(subject_id=subject.pk, state__in=["ready", "running"]):
            Job.objects.filter(pk=job.pk).update(due_at=now)
            queue.run(job.pk, worker="test", now=now)
        return Job.objects.filter(subject_id=subject.pk).order_by("-id").first()

    return call


def live(places, name):
    """Return the id of the version that a place holds under our mark; None for another value."""
    found = places.at[name].live
    return found[0] if found and found[1] == found[2] else None


def later(rotation, seconds):
    past = timezone.now() - timedelta(seconds=seconds)
    Rotation.objects.filter(pk=rotation.pk).update(since=past)
    Rotation.objects.filter(pk=rotation.pk, quiet_since__isnull=False).update(quiet_since=past)


def parts(rotation):
    rows = Delivery.objects.filter(rotation=rotation).select_related("dependent")
    return {row.dependent.name: row.state for row in rows}


def test_a_new_place_gets_the_current_version(key, push, places):
    row = push("orders")

    current = versions.current(key.pk)
    assert live(places, "orders") == str(current.pk)
    assert (row.push, row.live_id, row.tried_id) == (Push.THERE, current.pk, None)
    line = Event.objects.get(event="dependent.pushed")
    assert line.fields["number"] == 1
    assert Event.objects.filter(
        event="secret.opened", fields__purpose="delivery to orders"
    ).exists()


def test_a_place_that_holds_somebody_elses_value_is_left_alone_and_said(key, push, places, run_job):
    places.at["orders"].live = ("", b"", b"typed-by-hand")

    row = push("orders")

    assert places.at["orders"].live[2] == b"typed-by-hand"
    assert (row.push, row.live_id) == (Push.FAILED, None)
    job = Job.objects.get(subject_id=row.pk)
    assert (job.state, job.code) == ("held", "foreign")
    finding = Finding.objects.get(kind=FindingKind.PLACE, closed_at=None)
    assert key.name in finding.sentence

    places.at["orders"].live = None
    queue.resume(job_id=job.pk, person=key.owner, now=timezone.now())
    run_job(row)
    row.refresh_from_db()
    assert row.push == Push.THERE
    assert not Finding.objects.filter(kind=FindingKind.PLACE, closed_at=None).exists()


def test_places_move_wave_by_wave_and_the_label_last(key, begin, push, work, places):
    canary, rest = push("canary"), push("rest", wave=1)
    rotation = begin()
    places.health["canary"] = Health(State.PENDING, "It starts.")

    work(rotation)

    new = versions.pending(key.pk)
    assert live(places, "canary") == str(new.pk)
    assert live(places, "rest") == str(rotation.old_id)
    assert list(places.at["rest"].staged) == [str(new.pk)], (
        "staged everywhere before anything moved"
    )
    assert versions.current(key.pk).pk == rotation.old_id
    assert parts(rotation) == {"canary": "restarting", "rest": "waiting"}

    places.health.clear()
    moved = work(rotation)
    assert (moved.state, moved.wave) == ("draining", 1)
    assert live(places, "rest") == str(new.pk)
    assert versions.current(key.pk).pk == new.pk
    later(rotation, 5)
    assert work(rotation).state == "completed"
    for row in (canary, rest):
        row.refresh_from_db()
        assert (row.live_id, row.push) == (new.pk, Push.THERE)
    assert not places.at["canary"].staged
    assert not places.at["rest"].staged


def test_a_canary_that_is_not_well_leads_everything_back(key, begin, push, work, places, fake):
    push("canary"), push("rest", wave=1)
    rotation = begin()
    places.health["canary"] = Health(State.BAD, "It crashes.")

    done = work(rotation)

    assert (done.state, done.cause) == ("rolled_back", "failed")
    assert "canary" in done.sentence
    assert live(places, "canary") == live(places, "rest") == str(rotation.old_id)
    assert [one.remote_id for one in fake.alive()] == [versions.current(key.pk).remote_id]
    assert not places.at["rest"].staged


def test_an_edit_by_hand_is_a_conflict_and_stays(key, begin, push, work, places):
    push("canary"), push("rest", wave=1)
    rotation = begin()
    places.at["rest"].live = ("", b"", b"typed-by-hand")

    done = work(rotation, tries=2)

    assert done.state == "rolled_back"
    assert live(places, "canary") == str(rotation.old_id)
    assert places.at["rest"].live[2] == b"typed-by-hand"
    finding = Finding.objects.get(kind=FindingKind.PLACE, closed_at=None)
    assert "rest" in finding.sentence


def test_an_edit_after_it_was_confirmed_keeps_the_old_version_alive(
    begin, push, work, places, fake
):
    push("orders")
    rotation = begin()
    assert work(rotation).state == "draining"
    later(rotation, 5)
    places.at["orders"].live = ("", b"", b"typed-by-hand")

    looked = work(rotation)

    assert looked.state == "draining"
    assert parts(rotation) == {"orders": "failed"}
    assert len(fake.alive()) == 2
    later(rotation, 101)
    assert work(rotation).state == "held"


def test_an_edit_in_the_brown_out_has_the_old_version_switched_on(
    begin, push, work, places, fake, settings
):
    settings.ROTATION_BROWNOUT_SECONDS = 10
    switch = installed_switch(fake)
    push("orders")
    rotation = begin()
    work(rotation)
    later(rotation, 5)
    assert (work(rotation).state, len(switch.alive())) == ("brownout", 1)
    places.at["orders"].live = ("", b"", b"typed-by-hand")
    past = timezone.now() - timedelta(seconds=11)
    Rotation.objects.filter(pk=rotation.pk).update(brownout_at=past)

    held = work(rotation)

    assert (held.state, held.cause, held.misses) == ("held", "needed", 1)
    assert held.sentence.startswith("orders failed while the old version of ")
    assert len(switch.alive()) == 2


def installed_switch(fake):
    """Put a provider that can switch in place of another one, with what that has made."""
    switch = fakes.install(fakes.Sees(fake.recovery))
    switch.keys, switch.values = fake.keys, fake.values
    return switch


@pytest.mark.parametrize("fault", ["request", "answer"])
def test_a_lost_answer_is_tried_again_and_nobody_is_hurt(begin, push, work, places, fault, now):
    push("orders")
    rotation = begin()
    places.at["orders"].fault = fault

    work(rotation)

    assert Rotation.objects.get(pk=rotation.pk).state in {"validated", "promoting"}
    places.at["orders"].fault = ""
    assert work(rotation, tries=3).state == "draining"
    new = versions.version(Rotation.objects.get(pk=rotation.pk).new_id)
    assert live(places, "orders") == str(new.pk)


def test_a_place_that_is_down_holds_the_rotation_and_both_versions_work(
    begin, push, work, places, fake
):
    push("canary"), push("rest", wave=1)
    rotation = begin()
    places.health["canary"] = Health(State.PENDING, "It starts.")
    work(rotation)
    places.health.clear()
    places.at["rest"].fault = "down"

    held = work(rotation, tries=6)

    assert (held.state, held.cause) == ("held", "stopped")
    assert held.sentence.startswith("rest: ")
    assert len(fake.alive()) == 2
    places.at["rest"].fault = ""
    choosing.extend(rotation_id=rotation.pk, reason="It is up.", actor=WORKER, now=timezone.now())
    assert work(rotation).state == "draining"


def test_one_place_that_is_down_does_not_keep_its_wave_waiting(key, begin, push, work, places):
    push("a"), push("b"), push("c")
    rotation = begin()
    places.health = dict.fromkeys("abc", Health(State.PENDING, "Not yet."))
    real = Places.__getattr__

    def promote(ctx, *rest):
        places.at["b"].fault = "down"
        return real(places, "promote")(ctx, *rest)

    places.promote = promote
    work(rotation)

    new = str(versions.current(key.pk).pk)
    assert [live(places, name) == new for name in "abc"] == [True, False, True]


def test_a_rollback_at_a_place_that_is_down_keeps_the_new_version_alive(
    key, begin, push, work, places, fake
):
    push("canary")
    rotation = begin()
    places.health["canary"] = Health(State.PENDING, "It starts.")
    work(rotation)
    choosing.roll_back(rotation_id=rotation.pk, reason="No.", actor=WORKER, now=timezone.now())
    places.at["canary"].fault = "down"

    stuck = work(rotation, tries=6)

    assert (stuck.state, stuck.held_from) == ("held", "rolling_back")
    assert len(fake.alive()) == 2, "whoever reads at the place still has the new version"
    places.at["canary"].fault = ""
    places.health.clear()
    choosing.extend(rotation_id=rotation.pk, reason="It is up.", actor=WORKER, now=timezone.now())
    assert work(rotation).state == "rolled_back"
    assert live(places, "canary") == str(rotation.old_id)


def test_whoever_is_only_told_moves_with_the_label(key, begin, push, work, places):
    places.able["consumer_fetches"] = True
    push("told"), push("late", wave=3)
    rotation = begin()

    waves = set(Delivery.objects.filter(rotation=rotation).values_list("wave", flat=True))

    assert waves == {3}


def test_the_lag_of_a_place_is_part_of_the_overlap(begin, push, places):
    places.able["consumer_lag_s"] = 6.5
    push("orders", cache_s=2)

    assert begin().terms["overlap_s"] == 7


def test_a_rotation_waits_for_a_place_that_is_just_being_written(
    begin, push, work, places, run_job
):
    row = push("orders", write=False)
    Dependent.objects.filter(pk=row.pk).update(push=Push.WRITING)
    rotation = begin()

    assert work(rotation).state == "planned"

    run_job(row)
    assert work(rotation).state == "draining"


def test_a_place_that_is_added_during_a_rotation_waits_for_its_end(
    key, begin, push, work, places, run_job, fake
):
    push("first")
    rotation = begin()
    work(rotation)
    row = push("second")

    assert places.at["second"].live is None
    later(rotation, 5)
    assert work(rotation).state == "completed"
    run_job(row)
    assert live(places, "second") == str(versions.current(key.pk).pk)


def test_a_moved_connection_is_written_to_anew(account, key, push, places, run_job):
    row = push("orders")
    Dependent.objects.filter(pk=row.pk).update(server={"provider": "elsewhere"})
    places.at["orders"].live = None

    with transaction.atomic():
        delivering.promise(row.pk)
    run_job(row)

    assert live(places, "orders") == str(versions.current(key.pk).pk)


def test_our_value_is_taken_away_and_the_registration_ends(key, push, places, run_job):
    row = push("orders")

    with transaction.atomic():
        delivering.promise_removal(row.pk)
    run_job(row)

    row.refresh_from_db()
    assert places.at["orders"].live is None
    assert (row.ended_at is not None, row.live_id) == (True, None)
    assert Event.objects.filter(event="dependent.removed").count() == 1


def test_a_foreign_value_is_not_taken_away(key, push, places, run_job):
    row = push("orders")
    places.at["orders"].live = ("", b"", b"typed-by-hand")

    with transaction.atomic():
        delivering.promise_removal(row.pk)
    job = run_job(row)

    row.refresh_from_db()
    assert places.at["orders"].live[2] == b"typed-by-hand"
    assert (job.state, job.code, row.ended_at) == ("held", "foreign", None)


def test_use_cannot_be_seen_where_the_value_itself_lies_elsewhere(
    key, begin, push, work, places, fake
):
    fake.capabilities = partial(type(fake).capabilities, fake)
    push("orders")
    rotation = begin()

    held = work(rotation)

    assert (held.state, held.cause) == ("held", "unobserved")
    assert len(fake.alive()) == 2
