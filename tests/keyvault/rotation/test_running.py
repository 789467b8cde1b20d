"""A rotation at a fake provider: to its end, back by itself, held, and through every fault."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from approvals import queue
from approvals.models import Job
from keyvault.audit.models import Event
from keyvault.dependents.models import Health
from keyvault.findings.models import Finding, FindingKind
from keyvault.inventory.models import DeliveryMode, Key
from keyvault.providers import base
from keyvault.rotation import choosing, services, triggers
from keyvault.rotation.models import Delivery, DeliveryState, Rotation
from keyvault.rotation.saga import State
from keyvault.usage.models import LoadedVersion, UsageHour
from keyvault.vault import selectors as versions
from tests import races
from tests.keyvault.agents import builders
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def reader(cast, key):
    """An agent among the dependents that reports what it has loaded."""
    key.delivery_mode = DeliveryMode.PULL
    key.save()
    agent = builders.agent(cast)
    from keyvault.dependents import services as dependents

    with transaction.atomic():
        dependents.register(
            key=key,
            name=agent.name,
            agent_id=agent.pk,
            health=Health.REPORTS,
            now=cast.now,
            actor=WORKER,
        )
    return agent


@pytest.fixture
def report(key, reader):
    """Say by heartbeat which version the agent has loaded."""

    def call(number, *, healthy=True):
        LoadedVersion.objects.update_or_create(
            key_id=key.pk,
            agent_id=reader.pk,
            number=number,
            defaults={
                "is_healthy": healthy,
                "first_at": timezone.now(),
                "last_at": timezone.now() + timedelta(seconds=1),
            },
        )

    return call


@pytest.fixture
def rolled_out(begin, work, report, reader):
    """A rotation whose new version everybody has; the old one is to run out."""
    rotation = begin()
    assert work(rotation).state == "promoting"
    report(2)
    return work(rotation)


def later(rotation, seconds):
    """Let time pass for a rotation, by the database's clock."""
    past = timezone.now() - timedelta(seconds=seconds)
    Rotation.objects.filter(pk=rotation.pk).update(since=past)
    Rotation.objects.filter(pk=rotation.pk, quiet_since__isnull=False).update(quiet_since=past)
    Rotation.objects.filter(pk=rotation.pk, brownout_at__isnull=False).update(brownout_at=past)


def states(rotation):
    found = Event.objects.filter(event="rotation.moved", fields__rotation=str(rotation.pk))
    return list(found.order_by("at").values_list("fields__state", flat=True))


def test_a_rotation_runs_to_its_end_and_every_step_is_in_the_ledger(
    begin, work, rolled_out, key, fake, fresh
):
    assert rolled_out.state == "draining"
    assert len(fake.alive()) == 2, "both versions work until the old one is known to be silent"

    later(rolled_out, 5)
    done = work(rolled_out)

    assert done.state == "completed"
    current = versions.current(key.pk)
    assert (current.number, current.pk) == (2, done.new_id)
    assert [one.remote_id for one in fake.alive()] == [current.remote_id]
    assert versions.version(done.old_id).state == "revoked"
    assert states(done) == [
        "creating",
        "created",
        "validated",
        "staged",
        "promoting",
        "draining",
        "revoking",
        "revoke_verified",
        "completed",
    ]
    assert fresh(key).rotation_due_at is not None
    assert not Job.objects.filter(subject_id=done.pk, state__in=["ready", "held"]).exists()


def test_the_old_version_lives_while_it_is_still_read(rolled_out, work, report, fake):
    later(rolled_out, 5)
    report(1)

    assert work(rolled_out).state == "draining"
    assert len(fake.alive()) == 2


def test_who_does_not_confirm_holds_the_rotation_and_its_owner_is_told(
    begin, work, reader, key, fake
):
    rotation = begin()
    work(rotation)
    later(rotation, 101)

    held = work(rotation)

    assert (held.state, held.cause) == ("held", "unconfirmed")
    assert reader.name in held.sentence
    assert len(fake.alive()) == 2
    assert versions.current(key.pk).number == 2
    finding = Finding.objects.get(kind=FindingKind.ROTATION, closed_at=None)
    assert finding.sentence == held.sentence


def test_a_held_rotation_goes_on_when_it_is_given_more_time(begin, work, report, key, now):
    rotation = begin()
    work(rotation)
    later(rotation, 101)
    work(rotation)

    choosing.extend(rotation_id=rotation.pk, reason="it restarts", actor=WORKER, now=now)
    report(2)

    assert work(rotation).state == "draining"
    assert not Finding.objects.filter(kind=FindingKind.ROTATION, closed_at=None).exists()


@pytest.fixture
def late(begin, work, reader):
    """A rotation that is held because its one dependent did not move in time."""
    rotation = begin()
    work(rotation)
    later(rotation, 101)
    return work(rotation)


def clock():
    """Let the clock look after the rotations once."""
    triggers.run(timezone.now() + timedelta(seconds=1))


def test_a_held_rotation_goes_on_by_itself_when_whom_it_waited_for_comes(late, work, report, fake):
    clock()
    assert work(late).state == "held", "nobody has come"

    report(2)
    clock()

    assert work(late).state == "draining"
    assert states(late)[-3:] == ["held", "promoting", "draining"]
    assert not Finding.objects.filter(kind=FindingKind.ROTATION, closed_at=None).exists()
    later(late, 5)
    assert work(late).state == "completed"


def test_nor_does_it_end_the_old_version_while_that_is_still_read(late, work, report, fake):
    report(2)
    clock()
    work(late)
    later(late, 5)
    report(1)

    assert work(late).state == "draining"
    assert len(fake.alive()) == 2


def test_who_comes_back_ill_leaves_the_hold_to_a_person(late, work, report):
    report(2, healthy=False)
    clock()

    assert work(late).state == "held"


@pytest.mark.parametrize("cause", ["old_died", "failed", "stopped", "unobserved"])
def test_no_other_hold_is_over_by_itself(late, work, report, cause):
    Rotation.objects.filter(pk=late.pk).update(cause=cause)
    report(2)
    clock()

    assert work(late).state == "held"


def test_a_person_and_the_return_of_a_dependent_end_a_hold_once(late, work, report, now):
    report(2)
    clock()
    choosing.roll_back(rotation_id=late.pk, reason="wrong day", actor=WORKER, now=now)

    assert work(late).state == "rolling_back"
    assert states(late).count("promoting") == 2, "it was begun, and resumed once"


def test_a_dependent_that_is_ill_sends_everybody_back_by_itself(begin, work, report, key, fake):
    rotation = begin()
    work(rotation)
    report(2, healthy=False)

    going = work(rotation)
    assert (going.state, going.cause) == ("rolling_back", "failed")
    assert versions.current(key.pk).number == 1
    assert len(fake.alive()) == 2, "somebody has the new version still"

    report(1)
    back = work(rotation)

    assert back.state == "rolled_back"
    current = versions.current(key.pk)
    assert (current.number, [one.remote_id for one in fake.alive()]) == (1, [current.remote_id])
    assert versions.version(back.new_id).state == "revoked"


def test_a_person_sends_it_back(rolled_out, work, report, key, now):
    choosing.roll_back(rotation_id=rolled_out.pk, reason="wrong day", actor=WORKER, now=now)
    assert work(rolled_out).state == "rolling_back"
    report(1)
    assert work(rolled_out).state == "rolled_back"
    assert versions.current(key.pk).number == 1


def test_it_never_goes_back_to_a_credential_that_died(begin, work, report, fake, now):
    rotation = begin()
    work(rotation)
    fake.keys = {
        remote_id: one
        for remote_id, one in fake.keys.items()
        if one.tag.startswith(f"kv-{rotation.pk.hex}")
    }
    report(2, healthy=False)

    held = work(rotation)

    assert (held.state, held.cause) == ("held", "old_died")
    with pytest.raises(services.WrongMoment):
        choosing.roll_back(rotation_id=held.pk, reason="no", actor=WORKER, now=now)


def test_a_value_that_is_read_by_hand_waits_for_the_word_of_a_person(begin, work, key, fake, now):
    rotation = begin()
    assert work(rotation).state == "promoting"
    delivery = Delivery.objects.get(rotation=rotation)
    choosing.confirm(delivery_id=delivery.pk, actor=WORKER, now=now)
    work(rotation)
    later(rotation, 5)

    held = work(rotation)

    assert (held.state, held.cause) == ("held", "unobserved")
    assert len(fake.alive()) == 2


def test_a_key_that_is_revoked_meanwhile_ends_its_rotation(rolled_out, work, key):
    key.state, key.revoked_at = "revoked", timezone.now()
    key.save()

    ended = work(rolled_out, tries=2)

    assert (ended.state, ended.cause) == ("rolled_back", "key_ended")


def test_who_was_ill_has_another_chance_when_a_person_gives_it_time(
    begin, work, report, fake, key, now
):
    rotation = begin()
    work(rotation)
    fake.keys = {one.remote_id: one for one in fake.alive() if rotation.pk.hex in one.tag}
    report(2, healthy=False)
    assert work(rotation).cause == "old_died"
    past = timezone.now() - timedelta(seconds=5)
    LoadedVersion.objects.filter(key_id=key.pk).update(last_at=past)
    Rotation.objects.filter(pk=rotation.pk).update(created_at=past - timedelta(seconds=5))

    choosing.extend(rotation_id=rotation.pk, reason="mended", actor=WORKER, now=now)
    assert work(rotation).state == "promoting"
    report(2)
    assert work(rotation).state == "draining"


def test_a_rotation_that_went_back_by_itself_is_told_until_one_ends_well(
    begin, work, report, key, now
):
    rotation = begin()
    work(rotation)
    report(2, healthy=False)
    work(rotation)
    report(1)
    assert work(rotation).state == "rolled_back"
    told = Finding.objects.get(kind=FindingKind.ROTATION, closed_at=None)
    assert "went back" in told.sentence

    again = begin()
    work(again)
    report(3)
    work(again)
    later(again, 5)
    assert work(again).state == "completed"
    told.refresh_from_db()
    assert told.closed_at is not None


def test_an_approval_to_go_on_overrules_whoever_is_ill(begin, work, report, fake, now):
    rotation = begin()
    work(rotation)
    fake.keys = {one.remote_id: one for one in fake.alive() if rotation.pk.hex in one.tag}
    report(2, healthy=False)
    assert work(rotation).cause == "old_died"

    with transaction.atomic():
        choosing.go_on(rotation_id=rotation.pk, actor=WORKER, now=now, request_id=rotation.pk)

    assert work(rotation).state == "completed"


def test_a_worker_does_not_undo_what_a_person_has_excused(begin, work, reader, now):
    rotation = begin()
    work(rotation)
    seen = Delivery.objects.select_related("dependent").get(rotation=rotation)
    choosing.excuse(delivery_id=seen.pk, reason="switched off", actor=WORKER, now=now)

    services.note(seen, DeliveryState.CONFIRMED, rotation=work(rotation), now=now)

    assert Delivery.objects.get(pk=seen.pk).state == "excused"


def test_a_person_and_a_worker_lock_in_one_order(begin, work, key, now):
    rotation = begin()
    work(rotation)
    later(rotation, 101)
    work(rotation)
    with transaction.atomic():
        queue.enqueue(kind=services.JOB, subject_id=rotation.pk)
    with transaction.atomic():
        Job.objects.select_for_update().get(subject_id=rotation.pk, state="ready")
        person = races.Racer(
            lambda: choosing.extend(
                rotation_id=rotation.pk, reason="it restarts", actor=WORKER, now=now
            )
        )
        races.await_somebody_waiting()
        # The worker, who has its job, gets the key: the person waits for the job first.
        Key.objects.select_for_update(nowait=True).get(pk=key.pk)
    person.finish()


def dies(fake, rotation):
    """End every credential at the provider but the new one of a rotation."""
    fake.keys = {one.remote_id: one for one in fake.alive() if rotation.pk.hex in one.tag}


def test_nobody_is_sent_back_to_a_credential_that_died_while_it_ran_out(
    rolled_out, work, fake, key, now
):
    dies(fake, rolled_out)
    choosing.roll_back(rotation_id=rolled_out.pk, reason="wrong day", actor=WORKER, now=now)

    held = work(rolled_out)

    assert (held.state, held.cause, held.wants_back) == ("held", "old_died", False)
    assert versions.current(key.pk).number == 2


def test_nor_out_of_a_hold_in_which_it_died(begin, work, fake, key, now):
    rotation = begin()
    work(rotation)
    later(rotation, 101)
    assert work(rotation).cause == "unconfirmed"
    dies(fake, rotation)

    choosing.roll_back(rotation_id=rotation.pk, reason="wrong day", actor=WORKER, now=now)

    assert work(rotation).cause == "old_died"
    assert versions.current(key.pk).number == 2


def test_what_a_person_wants_back_passes_no_point_of_no_return(rolled_out, now):
    """The worker has looked before the person pressed, and moves after that."""
    found = Rotation.objects.select_related("key").get(pk=rolled_out.pk)
    choosing.roll_back(rotation_id=rolled_out.pk, reason="wrong day", actor=WORKER, now=now)

    with pytest.raises(services.WrongMoment), transaction.atomic():
        services.enter(found, State.REVOKING, now=now)


def test_a_rotation_that_waits_for_a_pasted_value_can_be_sent_back(begin, work, fake, key, now):
    fake.fail("create", base.Unsupported("A person creates this credential."))
    rotation = begin()
    work(rotation)
    Job.objects.filter(subject_id=rotation.pk).update(
        state="held", code="intake", sentence="Paste."
    )

    choosing.roll_back(rotation_id=rotation.pk, reason="not today", actor=WORKER, now=now)

    assert work(rotation, tries=2).state == "rolled_back"
    assert versions.current(key.pk).number == 1


def test_an_agent_that_may_not_use_the_key_any_more_is_not_waited_for(begin, key, cast):
    gone, here = builders.agent(cast, "gone-bot"), builders.agent(cast, "here-bot")
    key.delivery_mode = DeliveryMode.PULL
    key.save()
    builders.granted(cast, here, key)
    for agent in (gone, here):
        UsageHour.objects.create(
            key=key,
            agent=agent,
            host="db.example.com",
            kind="gateway",
            hour=timezone.now().replace(minute=0, second=0, microsecond=0),
            count=1,
            last_at=timezone.now(),
        )

    waited_for = Delivery.objects.filter(rotation=begin())

    assert [one.dependent.name for one in waited_for] == ["here-bot"]


def test_a_second_rotation_waits_for_the_first(begin, key):
    first = begin()
    with pytest.raises(services.AlreadyRotating) as refused:
        begin()
    assert refused.value.rotation_id == first.pk


def test_a_lost_answer_is_reconciled(begin, work, fake, key):
    from tests.keyvault.connections.fakes import After

    fake.fail("create", After(base.Ambiguous("no answer")))
    rotation = begin()
    assert work(rotation).state == "reconciling"

    assert work(rotation).state == "promoting"
    assert len(fake.alive()) == 2


def test_six_failures_hold_it_and_a_person_has_it_tried_again(begin, work, fake, key, now):
    fake.fail("create", *[base.Transient("try later")] * 6)
    rotation = begin()

    held = work(rotation, tries=6)
    assert (held.state, held.cause, held.held_from) == ("held", "stopped", "creating")
    assert held.sentence == "try later"

    choosing.extend(rotation_id=rotation.pk, reason="it is back", actor=WORKER, now=now)
    assert work(rotation).state == "promoting"
