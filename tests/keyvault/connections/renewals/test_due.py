"""Renewals by cadence: begun once when they are due, and looked after by the clock."""

from __future__ import annotations

from datetime import timedelta

import pytest

from approvals.models import Job
from keyvault.connections import renewals, renewals_due
from keyvault.connections.models import Connection, Renewal
from keyvault.providers import base
from tests.keyvault.connections.renewals.conftest import run
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)


def old(where, now, **more):
    Connection.objects.filter(pk=where.pk).update(
        **{"renew_days": 30, "credential_at": now - timedelta(days=31), **more}
    )


def test_a_cadence_begins_what_is_old_enough_once(where, now):
    old(where, now)

    assert [renewals_due.run(now), renewals_due.run(now)] == [1, 0]

    renewal = Renewal.objects.get()
    assert renewal.started_by == "Schedule"
    run(renewal, now)
    where.refresh_from_db()
    assert where.credential_at == now
    assert renewals_due.run(now + timedelta(days=29)) == 0
    assert renewals_due.run(now + timedelta(days=31)) == 1


@pytest.mark.parametrize("more", [{"renew_days": None}, {"credential_at": None}])
def test_nothing_begins_unapproved_or_of_unknown_age(where, now, more):
    old(where, now, **more)

    assert renewals_due.run(now) == 0


def test_one_that_was_stopped_rests_for_a_day(fake, where, now):
    old(where, now)
    fake.fail("create_admin", base.Denied("No."))
    renewals_due.run(now)
    run(Renewal.objects.get(), now)
    # It was held over a weekend before somebody stopped it.
    stopped_at = now + timedelta(days=2)
    renewals.stop(connection_id=where.pk, actor=WORKER, now=stopped_at)

    assert renewals_due.run(stopped_at + timedelta(hours=23)) == 0
    assert renewals_due.run(stopped_at + timedelta(hours=25)) == 1


def test_a_job_that_was_given_up_holds_its_renewal_and_a_lost_one_is_rung_for(begin, where, now):
    renewal = begin()
    Job.objects.filter(subject_id=renewal.pk).delete()
    renewals_due.run(now)
    assert Job.objects.filter(subject_id=renewal.pk, state="ready").count() == 1

    Job.objects.filter(subject_id=renewal.pk).update(
        state="held", sentence="The worker died.", ended_at=now
    )
    renewals_due.run(now)

    renewal.refresh_from_db()
    assert renewal.sentence == "The worker died."
    renewals.try_again(connection_id=where.pk, actor=WORKER, now=now)
    assert Job.objects.filter(subject_id=renewal.pk, state="ready").count() == 1


@pytest.mark.parametrize("change", [{"renew_days": None}, {"credential_number": 2}])
def test_what_changed_since_the_clock_looked_is_not_begun(fake, where, now, change):
    Connection.objects.update(renew_days=1, credential_at=now - timedelta(days=2))
    [seen] = renewals_due._due(now)
    Connection.objects.update(**change)

    assert not renewals_due._begin(seen, now)

    assert not Renewal.objects.exists()
