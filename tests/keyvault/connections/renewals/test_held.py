"""Renewals that are held, what people decide about them, and what nobody is ever shown."""

from __future__ import annotations

import pytest

from approvals.models import Job
from approvals.ports import NotVisible, Unfinished
from keyvault.audit.models import Event
from keyvault.connections import renewals, renewing
from keyvault.connections.models import Renewal
from keyvault.findings.models import Finding
from keyvault.providers import base
from keyvault.providers.base import Shape
from keyvault.vault.models import Sealed
from tests.keyvault.connections import fakes
from tests.keyvault.connections.fakes import After, Claims
from tests.keyvault.connections.renewals.conftest import run
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_failure_that_needs_a_person_is_held_and_retried_by_one(fake, begin, where, now):
    fake.problem = "The admin may not create users."
    renewal = begin()
    claims = Claims(now, renewal.pk)
    with pytest.raises(Unfinished, match="may not create users"):
        run(renewal, now, claims)
    last = claims.claim()
    last.is_last = True
    renewing.run(renewal.pk, last)

    renewal.refresh_from_db()
    assert (renewal.state, renewal.held_at is not None) == ("planned", True)
    assert "may not create users" in Finding.objects.get(closed_at=None).sentence
    fake.problem = ""
    renewals.try_again(connection_id=where.pk, actor=WORKER, now=now)
    run(renewal, now)

    assert renewal.state == "done"
    assert not Finding.objects.filter(closed_at=None).exists()
    assert Event.objects.filter(event="renewal.resumed").count() == 1


def test_a_refusal_of_the_first_call_leaves_no_candidate(fake, begin, where, now):
    fake.fail("create_admin", base.Denied("The right is missing."))
    renewal = begin()

    run(renewal, now)

    assert (renewal.state, renewal.attempt) == ("planned", 2)
    assert renewal.held_at is not None
    assert Sealed.objects.count() == 1
    renewals.stop(connection_id=where.pk, actor=WORKER, now=now)
    renewal.refresh_from_db()
    assert (renewal.state, renewal.held_at) == ("failed", None)
    assert fake.taken == {b"admin-canary"}


def test_what_may_have_been_called_is_not_stopped(fake, begin, where, now):
    fake.fail("create_admin", After(base.Ambiguous("lost")))
    renewal = begin()
    claims = Claims(now, renewal.pk)
    last = claims.claim()
    last.is_last = True
    renewing.run(renewal.pk, last)

    with pytest.raises(renewals.WrongMoment, match="tried again"):
        renewals.stop(connection_id=where.pk, actor=WORKER, now=now)


def test_nothing_is_decided_about_what_is_at_work(begin, where, now):
    with pytest.raises(NotVisible):
        renewals.try_again(connection_id=where.pk, actor=WORKER, now=now)
    begin()

    for act in (renewals.try_again, renewals.stop):
        with pytest.raises(renewals.WrongMoment, match="at work"):
            act(connection_id=where.pk, actor=WORKER, now=now)


def test_the_old_one_is_kept_until_the_provider_refuses_it(fake, begin, where, now):
    fake.revoke_admin = lambda ctx, old: None
    renewal = begin()

    with pytest.raises(Unfinished, match="should refuse"):
        run(renewal, now)

    renewal.refresh_from_db()
    assert renewal.state == "in_use"
    assert Sealed.objects.count() == 2


@pytest.mark.parametrize("shape", [Shape.MULTI, Shape.REPLACE])
def test_the_old_one_is_ended_only_after_a_check_with_the_new_one(fake, begin, now, shape):
    fake.admin_shape = shape
    renewal = begin()
    run(renewal, now)

    calls = fake.calls
    assert "check" in calls[calls.index("create_admin") : calls.index("revoke_admin")]


def test_a_credential_of_another_account_is_not_put_in_use(fake, begin, where, now):
    renewal = begin()
    claims = Claims(now, renewal.pk)
    claims.hooks["renew:called"] = lambda: setattr(fake, "account", "somebody else")

    run(renewal, now, claims)

    assert renewal.held_at is not None
    assert "another account" in renewal.sentence
    where.refresh_from_db()
    assert where.credential_number == 1


def test_a_server_that_takes_every_password_is_not_believed(fake, begin, now):
    fake._is_taken = lambda ctx: True
    renewal = begin()

    with pytest.raises(Unfinished, match="should refuse"):
        run(renewal, now)

    assert "create_admin" not in fake.calls


def test_no_line_and_no_row_holds_a_value(fake, begin, where, now, caplog):
    fake.fail("create_admin", RuntimeError("fails with admin-canary"))
    renewal = begin()
    with pytest.raises(Unfinished):
        run(renewal, now)
    run(renewal, now)

    words = [b"admin-canary", *fake.taken]
    kept = repr([list(Event.objects.values()), list(Renewal.objects.values())]) + caplog.text
    kept += repr(list(Job.objects.values())) + repr(list(Finding.objects.values()))
    assert not [word for word in words if word.decode() in kept]


def test_a_stranger_to_the_protocol_is_held(begin, now):
    renewal = begin()
    fakes.install(fakes.Fake())

    run(renewal, now)

    assert renewal.held_at is not None
