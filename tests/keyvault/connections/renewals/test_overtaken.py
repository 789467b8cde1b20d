"""A renewal and a person who replaces the credential by hand: one waits for the other."""

from __future__ import annotations

import pytest
from django.db import transaction

from approvals.ports import Unfinished
from keyvault.connections import context, renewals, renewing
from keyvault.connections.models import Connection
from keyvault.findings.models import Finding
from keyvault.vault.models import Sealed
from tests.keyvault.connections import fakes
from tests.keyvault.connections.fakes import Claims
from tests.keyvault.connections.renewals.conftest import by_hand, run
from tests.keyvault.vault.rows import WORKER
from tests.races import Racer, await_somebody_waiting

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_person_who_replaces_the_credential_ends_a_held_renewal(fake, begin, where, now):
    fake.problem = "Not ready."
    renewal = begin()
    last = Claims(now, renewal.pk).claim()
    last.is_last = True
    renewing.run(renewal.pk, last)

    by_hand(where, now)

    renewal.refresh_from_db()
    assert (renewal.state, renewal.sentence) == ("failed", "The credential was replaced by hand.")
    assert Sealed.objects.count() == 1
    assert not Finding.objects.filter(closed_at=None).exists()
    where.refresh_from_db()
    assert where.credential_at == now


@pytest.mark.parametrize("point", ["renew:announced", "renew:in_use"])
def test_one_that_is_at_work_is_waited_for(fake, begin, where, now, point):
    renewal = begin()
    with pytest.raises(fakes.Crash):
        renewing.run(renewal.pk, Claims(now, renewal.pk).claim(crash_at=point))

    with pytest.raises(renewals.Busy):
        by_hand(where, now)

    run(renewal, now)
    assert renewal.state == "done"


def test_one_that_is_just_tried_again_is_waited_for(fake, begin, where, now):
    """Otherwise its job calls the provider after the credential was replaced, and locks it out."""
    renewal = begin()
    with pytest.raises(fakes.Crash):
        renewing.run(renewal.pk, Claims(now, renewal.pk).claim(crash_at="renew:announced"))
    with transaction.atomic():
        renewals.hold(renewal, "For the test.", now=now)

    with transaction.atomic():
        renewals.try_again(connection_id=where.pk, actor=WORKER, now=now)
        racer = Racer(lambda: by_hand(where, now))
        await_somebody_waiting()

    with pytest.raises(renewals.Busy):
        racer.finish()
    renewal.refresh_from_db()
    assert renewal.state == "calling"


@pytest.mark.parametrize("point", ["renew:announced", "renew:in_use"])
def test_a_held_one_leaves_nothing_sealed_when_it_is_replaced(fake, begin, where, now, point):
    renewal = begin()
    with pytest.raises(fakes.Crash):
        renewing.run(renewal.pk, Claims(now, renewal.pk).claim(crash_at=point))
    with transaction.atomic():
        renewals.hold(renewal, "For the test.", now=now)

    by_hand(where, now)

    where.refresh_from_db()
    assert list(Sealed.objects.values_list("number", flat=True)) == [where.credential_number]


def test_a_change_of_the_title_does_not_disturb_a_renewal(fake, begin, where, now):
    renewal = begin()
    claims = Claims(now, renewal.pk)
    claims.hooks["renew:called"] = lambda: Connection.objects.update(title="Other", revision=2)

    run(renewal, now, claims)

    where.refresh_from_db()
    assert (where.credential_number, where.revision) == (2, 2)


def test_a_new_credential_never_goes_with_settings_of_before(where, now):
    """Whoever has read the Connection before both have changed reads it again."""
    stale = Connection.objects.get()
    by_hand(where, now)

    with (
        pytest.raises(Unfinished, match="read again"),
        context.reach(stale, actor=WORKER, now=now, purpose="test"),
    ):
        pass


def test_whoever_has_read_it_before_a_renewal_has_the_new_one(fake, begin, where, now):
    stale = Connection.objects.get()
    run(begin(), now)

    with context.reach(stale, actor=WORKER, now=now, purpose="test") as reached:
        assert {reached.admin["password"].reveal()} == fake.taken
