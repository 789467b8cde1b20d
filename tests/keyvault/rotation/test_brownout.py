"""The brown-out: the old version is switched off for a while, and on again for whoever fails."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from keyvault.audit.models import Event
from keyvault.connections import reconcile
from keyvault.findings.models import Finding, FindingKind
from keyvault.providers import base
from keyvault.providers.base import LastUse
from keyvault.rotation import choosing, services, triggers
from keyvault.rotation.models import Rotation, Trigger
from keyvault.rotation.saga import State
from keyvault.vault import selectors as versions
from tests.keyvault.connections import fakes
from tests.keyvault.connections.fakes import After
from tests.keyvault.reads import builders as reads
from tests.keyvault.rotation.test_running import (  # noqa: F401 - fixtures.
    later,
    reader,
    report,
    rolled_out,
    states,
)
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def fake(_registry, recovery):
    return fakes.install(fakes.Switch(recovery))


@pytest.fixture
def terms(settings):
    settings.ROTATION_GRACE_SECONDS, settings.ROTATION_QUIET_SECONDS = 100, 1
    settings.ROTATION_BROWNOUT_SECONDS, settings.ROTATION_BROWNOUT_FAILURES = 10, 1


@pytest.fixture
def off(rolled_out, work):  # noqa: F811
    """A rotation that has just switched the old version off."""
    later(rolled_out, 5)
    return work(rolled_out)


def old(rotation):
    return versions.version(rotation.old_id)


def alive(fake):
    return {one.remote_id for one in fake.alive()}


def events(rotation):
    found = Event.objects.filter(event__startswith="version.", fields__number=1)
    return list(found.order_by("at").values_list("event", flat=True))[-2:]


def test_the_old_version_is_off_for_its_time_and_then_ends(off, work, fake, key):
    assert off.state == "brownout"
    assert alive(fake) == {versions.current(key.pk).remote_id}
    assert old(off).suspended_at is not None
    later(off, 9)
    assert work(off).state == "brownout"

    later(off, 11)
    done = work(off)

    assert done.state == "completed"
    assert states(done)[-5:] == [
        "draining",
        "brownout",
        "revoking",
        "revoke_verified",
        "completed",
    ]
    assert events(done) == ["version.suspended", "version.revoked"]
    assert "resume" not in fake.calls


def held_for_whoever_fails(rotation, fake, name):
    """Check that the old version works again, that the owner knows for whom, and the events."""
    assert (rotation.state, rotation.cause, rotation.misses) == ("held", "needed", 1)
    assert len(alive(fake)) == 2
    assert old(rotation).suspended_at is None
    assert events(rotation) == ["version.suspended", "version.resumed"]
    finding = Finding.objects.get(kind=FindingKind.ROTATION, closed_at=None)
    assert finding.sentence.startswith(f"{name} failed while the old version of ")


def test_who_says_that_it_is_not_well_has_it_switched_on_again(off, work, fake, report, reader):  # noqa: F811
    report(2, healthy=False)

    held_for_whoever_fails(work(off), fake, reader.name)


def test_so_has_who_is_back_on_the_old_version(off, work, fake, report, reader):  # noqa: F811
    report(1)

    held_for_whoever_fails(work(off), fake, reader.name)


def test_so_has_who_reads_the_old_version_from_a_gateway(off, work, fake, reader, key):  # noqa: F811
    at = timezone.now() + timedelta(seconds=1)
    reads.shipped(1, at=at, agent_id=reader.pk, key_id=key.pk, number=1)

    held_for_whoever_fails(work(off), fake, "Somebody")


def test_so_has_whom_only_the_provider_sees(off, work, fake):
    provider = fakes.Sees(fake.recovery)
    provider.keys, provider.values = fake.keys, fake.values
    fakes.install(provider)
    provider.seen = LastUse(at=timezone.now() + timedelta(seconds=1))

    held_for_whoever_fails(work(off), provider, "Somebody")


def test_a_person_has_it_switched_off_anew(off, work, fake, report, now):  # noqa: F811
    report(2, healthy=False)
    held = work(off)

    choosing.extend(rotation_id=held.pk, reason="mended", actor=WORKER, now=now)
    again = work(held)
    assert (again.state, len(alive(fake))) == ("brownout", 2), "it has not said yet how it is"
    report(2)
    again = work(held)
    assert (again.state, again.misses, len(alive(fake))) == ("brownout", 0, 1)
    assert fake.calls.count("suspend") == 2

    later(again, 11)
    assert work(again).state == "completed"


def test_fewer_than_its_number_have_it_switched_on_when_the_time_is_over(
    off,
    work,
    fake,
    report,  # noqa: F811
    reader,  # noqa: F811
):
    Rotation.objects.filter(pk=off.pk).update(terms=off.terms | {"brownout_most": 2})
    report(2, healthy=False)
    assert (work(off).state, len(alive(fake))) == ("brownout", 1)

    later(off, 11)

    held_for_whoever_fails(work(off), fake, reader.name)


def test_it_is_switched_on_before_anybody_is_led_back(off, work, fake, report, key, now):  # noqa: F811
    fake.calls.clear()
    choosing.roll_back(rotation_id=off.pk, reason="alarms", actor=WORKER, now=now)

    assert work(off).state == "rolling_back"
    assert [one for one in fake.calls if one in {"resume", "validate"}][:2] == [
        "resume",
        "validate",
    ]
    assert versions.current(key.pk).number == 1
    assert len(alive(fake)) == 2

    report(1)
    assert work(off).state == "rolled_back"
    assert alive(fake) == {old(off).remote_id}


def test_what_a_person_wants_back_is_not_ended(off, now):
    found = Rotation.objects.select_related("key").get(pk=off.pk)
    choosing.roll_back(rotation_id=off.pk, reason="alarms", actor=WORKER, now=now)

    with pytest.raises(services.WrongMoment), transaction.atomic():
        services.enter(found, State.REVOKING, now=now)


def test_one_that_has_ended_meanwhile_is_nothing_to_go_back_to(off, work, fake, now):
    del fake.keys[old(off).remote_id]
    choosing.roll_back(rotation_id=off.pk, reason="alarms", actor=WORKER, now=now)

    held = work(off)

    assert (held.state, held.cause) == ("held", "old_died")


@pytest.mark.parametrize("fault", [base.Transient("try later"), After(base.Ambiguous("lost"))])
def test_a_provider_that_cannot_switch_it_off_holds_the_rotation(
    rolled_out,  # noqa: F811
    work,
    fake,
    now,
    fault,
):
    fake.fail("suspend", *[fault] * 6)
    later(rolled_out, 5)

    held = work(rolled_out, tries=6)

    assert (held.state, held.cause, held.held_from) == ("held", "stopped", "brownout")
    choosing.extend(rotation_id=held.pk, reason="it is back", actor=WORKER, now=now)
    assert (work(held).state, len(alive(fake))) == ("brownout", 1)
    later(held, 11)
    assert work(held).state == "completed"


def test_after_lost_answers_the_way_back_switches_it_on(rolled_out, work, fake, now):  # noqa: F811
    fake.fail("suspend", *[After(base.Ambiguous("lost"))] * 6)
    fake.fail("resume", base.Transient("try later"))
    later(rolled_out, 5)
    held = work(rolled_out, tries=6)
    assert (held.cause, len(alive(fake))) == ("stopped", 1), "it is off, and nobody has said so"
    assert old(held).suspended_at is not None

    choosing.roll_back(rotation_id=held.pk, reason="enough", actor=WORKER, now=now)

    assert work(held).state == "rolling_back"
    assert len(alive(fake)) == 2


def test_one_that_is_held_because_nobody_answers_is_left_with_both_versions(off, work, fake):
    provider = fakes.Sees(fake.recovery)
    provider.keys, provider.values = fake.keys, fake.values
    fakes.install(provider)
    provider.fail("last_use", *[base.Transient("try later")] * 6)

    held = work(off, tries=6)

    assert (held.state, held.cause, held.sentence) == ("held", "stopped", "try later")
    assert len(alive(provider)) == 2
    assert old(held).suspended_at is None


def test_one_that_could_not_be_switched_on_is_when_the_provider_answers_again(off, work, fake):
    provider = fakes.Sees(fake.recovery)
    provider.keys, provider.values = fake.keys, fake.values
    fakes.install(provider)
    provider.fail("last_use", *[base.Transient("try later")] * 6)
    provider.fail("resume", *[base.Transient("try later")] * 2)
    held = work(off, tries=6)
    assert (held.state, len(alive(provider))) == ("held", 1)

    for _ in range(2):
        triggers.run(timezone.now() + timedelta(seconds=1))
        held = work(off)

    assert (held.state, held.cause, held.sentence) == ("held", "stopped", "try later")
    assert len(alive(provider)) == 2
    assert old(held).suspended_at is None


def test_a_provider_that_does_not_switch_it_on_at_once_is_asked_again(off, work, fake, report):  # noqa: F811
    fake.fail("resume", base.Transient("try later"))
    report(2, healthy=False)

    assert work(off).state == "brownout"
    assert work(off).cause == "needed"
    assert len(alive(fake)) == 2


def test_the_inventory_takes_what_is_switched_off_for_no_dead_key(off, key, claims, fake):
    reconcile.look(key.connection_id, claims.claim())
    assert not Finding.objects.filter(kind=FindingKind.DEAD).exists()

    fake.keys.pop(versions.current(key.pk).remote_id)
    reconcile.look(key.connection_id, claims.claim())
    assert Finding.objects.filter(kind=FindingKind.DEAD, closed_at=None).count() == 1


def test_a_key_that_is_revoked_meanwhile_ends_its_rotation(off, work, key):
    key.state, key.revoked_at = "revoked", timezone.now()
    key.save()

    ended = work(off, tries=2)

    assert (ended.state, ended.cause) == ("rolled_back", "key_ended")


def test_an_incident_has_no_brown_out(begin, work, report, reader):  # noqa: F811
    rotation = begin(trigger=Trigger.INCIDENT)
    work(rotation)
    report(2)
    work(rotation)
    later(rotation, 5)

    done = work(rotation)

    assert done.state == "completed"
    assert "brownout" not in states(done)


def test_a_provider_that_cannot_is_not_asked_to(rolled_out, work, fake):  # noqa: F811
    plain = fakes.install(fakes.Fake(fake.recovery))
    plain.keys, plain.values = fake.keys, fake.values
    later(rolled_out, 5)

    done = work(rolled_out)

    assert done.state == "completed"
    assert "brownout" not in states(done)
