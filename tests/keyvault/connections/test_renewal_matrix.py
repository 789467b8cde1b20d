"""Whatever dies, is lost or comes late in a renewal: the Connection works, and it ends or a person is told.

Each run stops a worker at one point (dead, or asleep while a second one does the
work), with one fault of the provider in each call. After every call one of the
sealed values is taken by the provider, and after every try the Connection opens it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from approvals.ports import Later, LostClaim, Unfinished
from keyvault.audit.models import Event
from keyvault.connections import context, renewals, renewing
from keyvault.connections.models import Connection, Renewal
from keyvault.findings.models import Finding
from keyvault.providers import base
from keyvault.providers.base import Recovery, Shape, Verdict
from keyvault.vault import sealing
from keyvault.vault.models import Sealed
from tests.keyvault.connections import fakes
from tests.keyvault.connections.conftest import with_credential
from tests.keyvault.connections.fakes import After, Claims, Crash, Hang
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)

WAYS = {
    "side by side": (Recovery.CLIENT, Shape.MULTI),
    "one replaces the other": (Recovery.CLIENT, Shape.REPLACE),
    "the provider chooses": (Recovery.DIFF, Shape.MULTI),
}
FAULTS = {
    "none": [],
    "lost before": [base.Ambiguous("lost")],
    "lost after": [After(base.Ambiguous("lost"))],
    "lost after twice": [After(base.Ambiguous("lost")), After(base.Ambiguous("lost"))],
    "429": [base.Transient("too many", retry_after_s=1.0)],
    "refused": [base.Denied("a right is missing")],
    "500": [RuntimeError("a fault of the plug-in with admin-canary")],
    "500 after": [After(RuntimeError("a fault of the plug-in with admin-canary"))],
    "crash in the call": [Crash("in the call")],
    "crash after the call": [After(Crash("in the call"))],
    "hangs": {"create_admin": Hang(base.Ambiguous("no answer in time"))},
    "hangs, then happens": {"create_admin": Hang(After(base.Ambiguous("no answer in time")))},
}
POINTS = [
    "renew:planned",
    "renew:announced",
    "renew:called",
    "renew:stored",
    "renew:proved",
    "renew:in_use",
    "renew:revoked",
    "renew:done",
]
STOPS = ["dies", "sleeps"]
FAULTY = ("prepare_admin", "create_admin", "withdraw_admin", "revoke_admin")
MATRIX = list(product(POINTS, STOPS, FAULTS, WAYS))
SAMPLE = MATRIX[::7]
MOST_TRIES = 40


class Driver:
    """A renewal, and the workers that try it one after the other."""

    def __init__(self, renewal, fake):
        self.renewal, self.fake = renewal, fake
        self.claims = Claims(timezone.now(), renewal.pk)
        fake._pass = self.watched(fake._pass)

    def watched(self, inner):
        def passed(method):
            self.one_is_taken()
            return inner(method)

        return passed

    def row(self):
        return Renewal.objects.select_related("connection").get(pk=self.renewal.pk)

    def sealed(self):
        """Return what lies sealed for the Connection, by number."""
        row = self.row()
        found = {}
        for number in (row.number - 1, row.number):
            opened = sealing.take(
                context.place_of(row.connection_id, number),
                actor=WORKER,
                subject=context.subject_of(row.connection),
                now=timezone.now(),
                purpose="test",
            )
            if opened:
                found[number] = opened["password"].reveal()
        return found

    def one_is_taken(self):
        assert set(self.sealed().values()) & self.fake.taken, "nobody has what the provider takes"

    def works(self):
        """See that whoever works with the Connection now has a credential that is taken."""
        before, self.fake.faults = self.fake.faults, {}
        with context.reach(
            Connection.objects.get(pk=self.renewal.connection_id),
            actor=WORKER,
            now=timezone.now(),
            purpose="test",
        ) as found:
            assert found.admin["password"].reveal() in self.fake.taken
        self.fake.faults = before

    def die(self):
        raise Crash("at the point")

    def work(self):
        """Try once, as a worker would; say whether another try may do more."""
        run = self.claims.claim()
        run.kind = renewals.JOB
        try:
            renewing.run(self.renewal.pk, run)
        except Crash:
            # The process is gone, and with it its session and what that held.
            connection.close()
        except (Later, Unfinished, RuntimeError, LostClaim):
            pass
        self.works()
        row = self.row()
        return row.is_open and row.held_at is None

    def to_the_end(self):
        for _ in range(MOST_TRIES):
            if not self.work():
                return self.row()
        raise AssertionError(f"it hangs in {self.row().state}: {self.row().sentence}")


@pytest.fixture
def driver(cast, _registry):
    def make(way):
        recovery, shape = WAYS[way]
        fake = fakes.install(fakes.Renews(recovery, shape))
        where = with_credential(rows.connection(cast, provider=fake.kind), cast.now)
        with transaction.atomic():
            renewal = renewals.begin(
                connection_id=where.pk,
                request_id=uuid4(),
                started_by="Frank",
                actor=WORKER,
                now=cast.now,
            )
        return Driver(renewal, fake)

    return make


def play(driver, point, stop, fault):
    """Stop the first worker at a point, one way or the other, with one fault in each call."""
    found = FAULTS[fault]
    for method in FAULTY:
        if isinstance(found, list):
            driver.fake.fail(method, *found)
        elif method in found:
            driver.fake.fail(method, replace(found[method], meanwhile=driver.to_the_end))
    driver.fake.fail("validate_admin", After(base.Transient("unclear")))
    driver.claims.hooks[point] = driver.to_the_end if stop == "sleeps" else driver.die
    driver.to_the_end()
    finished(driver)


def finished(driver):
    """Check what must hold in the end: done; or held with its owner told, and then done by a person."""
    for _ in range(8):
        row = driver.row()
        if row.held_at is None:
            break
        told = Finding.objects.get(detail="renewal", closed_at=None)
        assert row.sentence in told.sentence
        assert "canary" not in told.sentence
        renewals.try_again(connection_id=row.connection_id, actor=WORKER, now=timezone.now())
        driver.to_the_end()
    row = driver.row()
    assert row.state == "done", row.sentence
    assert not Finding.objects.filter(closed_at=None).exists()
    assert driver.sealed() == {row.number: next(iter(driver.fake.taken))}
    assert len(driver.fake.taken) == 1
    assert row.connection.credential_number == row.number == 2
    assert row.connection.credential_fingerprint == row.fingerprint != ""
    assert Sealed.objects.count() == 1
    moves = Event.objects.filter(event="renewal.moved", fields__state__in=["in_use", "done"])
    assert sorted(moves.values_list("fields__state", flat=True)) == ["done", "in_use"]


@pytest.mark.parametrize("way", WAYS)
def test_the_points_are_those_that_a_renewal_passes(driver, way):
    found = driver(way)
    run = found.claims.claim()

    renewing.run(found.renewal.pk, run)

    wanted = [point for point in POINTS if point != "renew:stored" or way == "the provider chooses"]
    assert run.passed == wanted
    finished(found)


@pytest.mark.parametrize(("point", "stop", "fault", "way"), SAMPLE)
def test_a_sample_of_the_matrix(driver, point, stop, fault, way):
    play(driver(way), point, stop, fault)


@pytest.mark.campaign
@pytest.mark.parametrize(("point", "stop", "fault", "way"), MATRIX)
def test_the_whole_matrix(driver, point, stop, fault, way):
    play(driver(way), point, stop, fault)


def test_nothing_is_concluded_from_silence(driver):
    """While the provider gives no verdict nothing is called, and no credential is handed out."""
    found = driver("one replaces the other")
    found.fake.fail("create_admin", After(base.Ambiguous("lost")))
    found.work()
    found.fake.verdict = Verdict.UNKNOWN
    run = found.claims.claim()
    calls = found.fake.calls.count("create_admin")

    with pytest.raises(Unfinished, match="does not say"):
        renewing.run(found.renewal.pk, run)
    where = Connection.objects.get()
    with (
        pytest.raises(Unfinished, match="does not say"),
        context.reach(where, actor=WORKER, now=timezone.now(), purpose="test"),
    ):
        pass

    assert found.fake.calls.count("create_admin") == calls
    found.fake.verdict = None
    found.to_the_end()
    finished(found)


def test_where_neither_is_taken_a_person_is_told(driver):
    found = driver("one replaces the other")
    found.fake.fail("create_admin", After(base.Ambiguous("lost")))
    found.work()
    found.fake._pass = found.fake.calls.append
    found.fake.taken = {b"set by somebody else"}
    run = found.claims.claim()

    renewing.run(found.renewal.pk, run)

    assert found.row().held_at is not None
    assert "neither" in Finding.objects.get(closed_at=None).sentence
