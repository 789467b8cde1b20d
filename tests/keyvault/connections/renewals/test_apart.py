"""Renewals kept apart: from each other, from two workers, and from work with the credential."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from approvals.ports import Later, LostClaim
from keyvault.audit.models import Event
from keyvault.connections import context, renewals, renewing, turns
from keyvault.connections.models import Renewal
from keyvault.providers.base import Shape
from tests.keyvault.connections.fakes import Claims
from tests.keyvault.connections.renewals.conftest import PATIENCE_S, patiently, run
from tests.keyvault.vault.rows import WORKER
from tests.races import Racer, await_somebody_waiting

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_database_keeps_one_open_renewal_of_a_connection(begin, where, now):
    begin()
    with pytest.raises(IntegrityError, match="renewal_one_open"), transaction.atomic():
        Renewal.objects.create(
            connection=where, request_id=uuid4(), started_by="x", number=2, created_at=now
        )


def test_two_who_begin_at_once_begin_one(begin):
    gate = threading.Barrier(2, timeout=PATIENCE_S)
    refused = []

    def both():
        gate.wait()
        try:
            begin()
        except renewals.NotRenewable as error:
            refused.append(error)

    racers = [Racer(both), Racer(both)]
    for racer in racers:
        racer.finish()

    assert len(refused) == 1
    assert Renewal.objects.count() == 1


def test_two_workers_make_one_credential(fake, begin, now):
    """One is overtaken in the middle of its call: the other waits its turn, and the fence decides."""
    renewal = begin()
    claims = Claims(now, renewal.pk)
    in_call, go_on = threading.Event(), threading.Event()
    lost = []

    def sleep():
        in_call.set()
        assert go_on.wait(PATIENCE_S)

    claims.hooks["renew:called"] = sleep

    def first():
        try:
            renewing.run(renewal.pk, claims.claim())
        except LostClaim as error:
            lost.append(error)

    racer = Racer(first)
    assert in_call.wait(PATIENCE_S)
    second = Racer(lambda: patiently(renewal, claims.claim()))
    await_somebody_waiting()
    go_on.set()
    racer.finish()
    second.finish()

    renewal.refresh_from_db()
    assert len(lost) == 1
    assert renewal.state == "done"
    assert len(fake.taken) == 1
    assert Event.objects.filter(event="renewal.moved", fields__state="in_use").count() == 1


def test_work_that_is_under_way_is_waited_for_and_what_comes_then_has_the_new_one(
    fake, begin, where, now
):
    renewal = begin()
    fake.admin_shape = Shape.REPLACE
    with context.reach(where, actor=WORKER, now=now, purpose="test") as reached:
        racer = Racer(lambda: patiently(renewal, Claims(now, renewal.pk).claim()))
        await_somebody_waiting()
        assert reached.admin["password"].reveal() in fake.taken
        # Whoever comes now lets the one go first that waits.
        assert not can_share(where)
    racer.finish()

    with context.reach(where, actor=WORKER, now=now, purpose="test") as reached:
        assert {reached.admin["password"].reveal()} == fake.taken


def can_share(where):
    """Say whether another session gets its share of the Connection at once."""
    found = []

    def look():
        found.append(turns._ask("SELECT pg_try_advisory_lock_shared(%s)", turns._lock(where.pk)))

    Racer(look).finish()
    return found[0]


def test_a_renewal_that_does_not_get_its_turn_comes_again(begin, where, now):
    renewal = begin()
    holding, go_on = threading.Event(), threading.Event()

    def hold():
        with context.reach(where, actor=WORKER, now=now, purpose="test"):
            holding.set()
            assert go_on.wait(PATIENCE_S)

    racer = Racer(hold)
    assert holding.wait(PATIENCE_S)
    with pytest.raises(Later):
        run(renewal, now)
    go_on.set()
    racer.finish()

    assert Renewal.objects.get().state == "planned"
    run(renewal, now)
    assert renewal.state == "done"


def test_the_database_ends_a_renewal_that_sleeps(begin, where):
    """The session that is alone may be idle only for as long as calls can take."""

    def limits():
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_session_timeout")
            return cursor.fetchone()[0]

    before = limits()
    with turns.alone(where.pk):
        assert limits() == "90s"
    assert limits() == before
