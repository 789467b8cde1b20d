"""The admin credential of Connections to real servers, renewed by the job while others work."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
import redis
from django.db import connections, transaction

from approvals.ports import Later, Unfinished
from keyvault.connections import checks, context, renewals, renewing
from keyvault.connections.models import Connection, Renewal
from keyvault.crypto.secret import Secret
from keyvault.findings.models import Finding
from keyvault.vault import sealing
from tests.keyvault.connections.fakes import Claims, Crash
from tests.keyvault.connections.real import connect, place, postgresql_place, valkey_place, where
from tests.keyvault.vault.rows import WORKER

__all__ = ["place", "postgresql_place", "valkey_place", "where"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def renewal(where, now):
    with transaction.atomic():
        return renewals.begin(
            connection_id=where.pk,
            request_id=uuid4(),
            started_by="Frank",
            actor=WORKER,
            now=now,
        )


def word_of(where, now):
    where = Connection.objects.get(pk=where.pk)
    with context.reach(where, actor=WORKER, now=now, purpose="test") as reached:
        return reached.admin["password"].reveal().decode()


def run(renewal, now, **more):
    renewing.run(renewal.pk, Claims(now, renewal.pk).claim(**more))
    renewal.refresh_from_db()


def test_it_is_renewed_while_others_work_with_it(place, where, renewal, now):
    """Not one check beside it meets a credential that the server refuses."""
    found, is_over, has_begun = [], threading.Event(), threading.Event()

    def work():
        row = Connection.objects.get(pk=where.pk)
        while not is_over.is_set():
            checked = checks.check(connection=row, actor=WORKER, now=now)
            found.append([one.sentence for one in checked.problems if one.is_fatal])
            has_begun.set()
        connections.close_all()

    others = [threading.Thread(target=work) for _ in range(2)]
    for other in others:
        other.start()
    assert has_begun.wait(30)
    # Whoever is under way is waited for, as the queue does it.
    for _ in range(20):
        try:
            run(renewal, now)
            break
        except Later:
            continue
    seen = len(found)
    while len(found) < seen + 4:
        has_begun.clear()
        assert has_begun.wait(30)
    is_over.set()
    for other in others:
        other.join(30)

    assert renewal.state == "done"
    assert [sentences for sentences in found if sentences] == []
    new = word_of(where, now)
    assert place.lets_in(new)
    assert not place.lets_in(place.password)


@pytest.mark.parametrize(
    "point", ["renew:planned", "renew:announced", "renew:called", "renew:proved", "renew:in_use"]
)
def test_whoever_takes_over_asks_the_server(place, where, renewal, now, point):
    with pytest.raises(Crash):
        run(renewal, now, crash_at=point)
    assert place.lets_in(word_of(where, now)), "the Connection works before anybody takes over"

    run(renewal, now)

    assert renewal.state == "done"
    assert place.lets_in(word_of(where, now))
    assert not place.lets_in(place.password)


def test_an_admin_that_was_locked_out_is_told_and_nothing_is_changed(place, where, renewal, now):
    with transaction.atomic():
        wrong = {"password": Secret.of("not-the-password")}
        sealing.put(context.credential_place(where), wrong, now=now)
    last = Claims(now, renewal.pk).claim()
    last.is_last = True

    renewing.run(renewal.pk, last)

    renewal.refresh_from_db()
    assert (renewal.state, renewal.calls) == ("planned", 0)
    assert renewal.held_at is not None
    assert Finding.objects.filter(detail="renewal", closed_at=None).exists()
    assert place.lets_in(place.password)


def test_a_server_that_would_forget_it_is_not_given_a_new_one(valkey_place, cast, now):
    place = valkey_place
    where = connect(cast, place)
    with transaction.atomic():
        renewal = renewals.begin(
            connection_id=where.pk, request_id=uuid4(), started_by="F", actor=WORKER, now=now
        )
    with redis.Redis(port=place.port, username=place.target.admin, password=place.password) as root:
        root.execute_command("ACL", "SETUSER", place.target.admin, "-acl|save", "-config|rewrite")

    run(renewal, now)

    assert renewal.held_at is not None
    assert "does not write its users" in Renewal.objects.get().sentence
    assert place.lets_in(place.password)


def test_a_server_that_is_away_is_tried_again(place, where, renewal, now):
    Connection.objects.update(allowed_hosts=[])

    with pytest.raises(Unfinished):
        run(renewal, now)

    assert Renewal.objects.get().state == "planned"
    assert place.lets_in(place.password)
