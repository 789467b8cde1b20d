"""Edges of rotations at places: who is skipped, comes late, is removed or out of reach, and what is left there."""

# ruff: noqa: F811 - pytest takes fixtures by their names.

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from approvals.models import Job
from keyvault.audit.models import Event
from keyvault.dependents.models import Dependent, Push
from keyvault.destinations.base import Denied, Health, State
from keyvault.findings.models import Finding, FindingKind
from keyvault.rotation import choosing, delivering, services, triggers
from keyvault.rotation.models import Delivery, Rotation
from keyvault.vault import selectors as versions
from tests.keyvault.rotation.test_places import (  # noqa: F401 - fixtures.
    _watched,
    account,
    later,
    live,
    parts,
    places,
    push,
    run_job,
)
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)
SLOW = Health(State.PENDING, "It starts.")


def delivery(rotation, name):
    return Delivery.objects.get(rotation=rotation, dependent__name=name)


def excuse(rotation, name):
    row = delivery(rotation, name)
    choosing.excuse(delivery_id=row.pk, reason="Gone.", actor=WORKER, now=timezone.now())


def extend(rotation):
    choosing.extend(rotation_id=rotation.pk, reason="Try.", actor=WORKER, now=timezone.now())


def back(rotation):
    choosing.roll_back(rotation_id=rotation.pk, reason="No.", actor=WORKER, now=timezone.now())


def denied(_ctx, *_rest):
    raise Denied("The credential of the destination has ended.")


def around(places, call, before):
    """Have something happen before each call of one kind; `before` gets the name of the place."""
    real = getattr(places, call)

    def called(ctx, *rest):
        before(str(ctx.options["place"]))
        return real(ctx, *rest)

    setattr(places, call, called)


def test_the_rotation_of_a_revoked_key_ends_though_a_place_has_not_confirmed(
    key, begin, push, work, places
):
    push("orders")
    rotation = begin()
    places.health["orders"] = SLOW
    assert work(rotation).state == "promoting"
    for version in versions.live(key.pk):
        version.state, version.revoked_at = "revoked", timezone.now()
        version.save()
    key.state, key.revoked_at = "revoked", timezone.now()
    key.save()

    ended = work(rotation, tries=2)

    assert (ended.state, ended.cause) == ("rolled_back", "key_ended")


def test_a_revoked_key_does_not_make_the_tries_of_its_rotation_endless(key, begin, now):
    rotation = begin()
    Job.objects.filter(subject_id=rotation.pk).update(attempts=3)
    key.state, key.revoked_at = "revoked", now
    key.save()

    triggers.run(timezone.now() + timedelta(seconds=1))

    assert list(Job.objects.filter(subject_id=rotation.pk).values_list("state", "attempts")) == [
        ("ready", 3)
    ]


@pytest.mark.parametrize("choice", ["back", "on"])
def test_a_place_that_refuses_to_be_read_keeps_nobody_from_choosing(
    key, begin, push, work, places, choice
):
    push("canary"), push("rest", wave=1)
    rotation = begin()
    places.health["rest"] = SLOW
    work(rotation)
    verify, places.verify = places.verify, denied
    held = work(rotation)
    assert (held.state, held.cause, held.wave) == ("held", "stopped", 1)

    if choice == "back":
        back(rotation)
        assert work(rotation).held_from == "rolling_back"
        assert live(places, "canary") == live(places, "rest") == str(rotation.old_id)
        places.verify = verify
        places.health.clear()
        extend(rotation)
        assert work(rotation).state == "rolled_back"
    else:
        with transaction.atomic():
            choosing.go_on(
                rotation_id=rotation.pk, actor=WORKER, now=timezone.now(), request_id=uuid4()
            )
        assert work(rotation).state == "completed"


def test_what_was_written_without_an_answer_is_taken_back(key, begin, push, work, places, fake):
    push("orders")
    rotation = begin()
    around(places, "promote", lambda name: setattr(places.at[name], "fault", "answer"))
    work(rotation)
    new = versions.by_ids([Rotation.objects.get(pk=rotation.pk).new_id])
    assert live(places, "orders") in {str(one) for one in new}
    del places.promote
    places.at["orders"].fault = "down"
    assert work(rotation, tries=6).state == "held"
    back(rotation)
    places.at["orders"].fault = ""

    done = work(rotation, tries=2)

    assert done.state == "rolled_back"
    assert live(places, "orders") == str(rotation.old_id)
    assert [one.remote_id for one in fake.alive()] == [versions.current(key.pk).remote_id]


def test_the_new_version_works_until_who_reads_at_a_place_has_the_old_one_again(
    begin, push, work, places, fake
):
    places.able["consumer_lag_s"] = 60.0
    push("orders")
    rotation = begin()
    assert work(rotation).state == "draining"
    back(rotation)

    waits = work(rotation, tries=2)

    assert waits.state == "rolling_back"
    assert live(places, "orders") == str(rotation.old_id)
    assert len(fake.alive()) == 2
    past = timezone.now() - timedelta(seconds=61)
    Delivery.objects.filter(rotation=rotation).update(given_at=past)
    assert work(rotation).state == "rolled_back"
    assert len(fake.alive()) == 1


def test_who_is_skipped_while_another_place_is_written_is_not_written(begin, push, work, places):
    push("a"), push("b")
    rotation = begin()
    places.health["a"] = SLOW
    around(places, "promote", lambda name: excuse(rotation, "b") if name == "a" else None)

    work(rotation)

    assert live(places, "b") == str(rotation.old_id)
    assert parts(rotation)["b"] == "excused"


def test_many_slow_places_do_not_outlive_the_claim(begin, push, work, places):
    for name in "abc":
        push(name)
    rotation = begin()
    left = []

    def slow(_name):
        job = Job.objects.filter(subject_id=rotation.pk, state="running")
        left.append(job.get().lease_until - timezone.now())
        job.update(lease_until=timezone.now())

    for call in ("stage", "verify", "cleanup"):
        around(places, call, slow)

    assert work(rotation).state == "draining"
    later(rotation, 5)
    assert work(rotation).state == "completed"
    assert min(left) > timedelta(seconds=30)


def test_a_place_that_is_gone_for_good_is_skipped_before_anything_is_staged(
    begin, push, work, places, fake
):
    push("gone"), push("rest")
    rotation = begin()
    places.at["gone"].fault = "down"
    assert work(rotation, tries=6).state == "held"

    excuse(rotation, "gone")
    extend(rotation)

    assert work(rotation).state == "draining"
    assert live(places, "gone") == str(rotation.old_id)
    assert live(places, "rest") != str(rotation.old_id)


def test_nobody_is_skipped_while_a_rotation_goes_back(begin, push, work, places):
    push("orders")
    rotation = begin()
    work(rotation)
    back(rotation)
    places.at["orders"].fault = "down"
    assert work(rotation, tries=6).held_from == "rolling_back"

    with pytest.raises(services.WrongMoment, match="goes back"):
        excuse(rotation, "orders")
    assert parts(rotation)["orders"] != "excused"


def test_a_place_that_was_skipped_gets_the_new_version_once_the_rotation_is_over(
    key, begin, push, work, places, run_job
):
    row = push("orders")
    rotation = begin()
    around(places, "promote", lambda name: setattr(places.at[name], "fault", "down"))
    assert work(rotation, tries=6).state == "held"
    excuse(rotation, "orders")
    extend(rotation)
    work(rotation)
    later(rotation, 5)
    assert work(rotation).state == "completed"
    assert live(places, "orders") == str(rotation.old_id)
    del places.promote
    places.at["orders"].fault = ""

    run_job(row)

    row.refresh_from_db()
    new = versions.current(key.pk)
    assert live(places, "orders") == str(new.pk)
    assert (row.push, row.live_id) == (Push.THERE, new.pk)


def test_a_place_that_cannot_be_written_is_told_after_the_last_try(push, places, run_job):
    row = push("orders", write=False)
    places.at["orders"].fault = "down"

    for _ in range(6):
        job = run_job(row)

    assert job.state == "held"
    finding = Finding.objects.get(kind=FindingKind.PLACE, closed_at=None)
    assert "orders" in finding.sentence


def test_a_hold_for_a_place_is_over_once_the_place_is_well(begin, push, work, places):
    push("canary"), push("rest", wave=1)
    rotation = begin()
    places.health["canary"] = SLOW
    work(rotation)
    later(rotation, 101)
    held = work(rotation)
    assert (held.state, held.cause) == ("held", "unconfirmed")
    assert work(rotation).state == "held"

    places.health.clear()

    assert work(rotation).state == "draining"


def test_more_time_writes_anew_only_where_it_can_help_and_says_so(begin, push, work, places, fake):
    push("canary")
    rotation = begin()
    work(rotation)
    Delivery.objects.filter(rotation=rotation).update(state="failed", has_new=False)
    Rotation.objects.filter(pk=rotation.pk).update(
        state="held", held_from="rolling_back", cause="stopped"
    )
    extend(rotation)
    assert parts(rotation) == {"canary": "failed"}
    Rotation.objects.filter(pk=rotation.pk).update(
        state="held", held_from="promoting", cause="old_died"
    )

    extend(rotation)

    assert parts(rotation) == {"canary": "waiting"}
    line = Event.objects.get(event="rotation.delivered", fields__state="waiting")
    assert line.fields["dependent"] == "canary"


def test_what_was_approved_to_go_on_is_no_word_for_the_way_back(begin, push, work, places, fake):
    push("orders")
    rotation = begin()
    places.health["orders"] = SLOW
    work(rotation)
    later(rotation, 101)
    work(rotation)
    Rotation.objects.filter(pk=rotation.pk).update(may_go_on=True)

    back(rotation)
    places.at["orders"].fault = "down"
    stuck = work(rotation, tries=8)

    assert (stuck.state, stuck.held_from, stuck.may_go_on) == ("held", "rolling_back", False)
    assert len(fake.alive()) == 2, "whoever reads at the place still has the new version"


def test_a_rotation_waits_for_a_place_that_is_just_being_emptied(
    begin, push, work, places, run_job, fake
):
    row = push("orders")
    with transaction.atomic():
        delivering.promise_removal(row.pk)
    Dependent.objects.filter(pk=row.pk).update(push=Push.WRITING)
    rotation = begin()
    assert work(rotation).state == "planned"

    run_job(row)

    assert parts(rotation) == {"orders": "excused"}
    assert work(rotation).state == "draining"
    assert places.at["orders"].live is None, "nothing is written where nobody is registered"


def test_a_place_gets_what_is_current_when_its_turn_has_come(
    key, begin, push, work, places, run_job, monkeypatch
):
    row = push("orders", write=False)
    take = delivering._take_turn

    def late(*given):
        if not Rotation.objects.exists():
            rotation = begin()
            work(rotation)
            later(rotation, 5)
            assert work(rotation).state == "completed"
        take(*given)

    monkeypatch.setattr(delivering, "_take_turn", late)

    assert run_job(row).state == "done", "a version that has ended opens for nobody"

    assert versions.current(key.pk).number == 2
    assert live(places, "orders") == str(versions.current(key.pk).pk)


@pytest.mark.parametrize("way", ["on", "back"])
def test_more_time_writes_to_a_place_that_shows_another_version(
    key, begin, push, work, places, fake, way
):
    push("orders")
    before = places.at["orders"].live
    rotation = begin()
    places.health["orders"] = SLOW
    work(rotation)
    if way == "back":
        before = places.at["orders"].live
        back(rotation)
        work(rotation)
    places.at["orders"].live = before
    later(rotation, 101)
    assert work(rotation).cause == "unconfirmed"
    places.health.clear()

    extend(rotation)

    done = work(rotation, tries=2)
    assert done.state == ("draining" if way == "on" else "rolled_back")
    assert live(places, "orders") == str(done.new_id if way == "on" else done.old_id)
    assert len(fake.alive()) == (2 if way == "on" else 1)


def test_a_place_that_has_the_new_version_again_is_seen_before_that_ends(
    begin, push, work, places, fake
):
    places.able["consumer_lag_s"] = 60.0
    push("orders")
    rotation = begin()
    work(rotation)
    late = places.at["orders"].live
    back(rotation)
    assert work(rotation, tries=2).state == "rolling_back"
    Delivery.objects.filter(rotation=rotation).update(given_at=timezone.now() - timedelta(hours=1))
    places.at["orders"].live = late

    assert work(rotation).state == "rolling_back"

    assert len(fake.alive()) == 2
    assert parts(rotation) == {"orders": "restarting"}
