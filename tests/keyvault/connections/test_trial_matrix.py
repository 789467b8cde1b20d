"""Whatever dies, is lost or comes late in a test run: it ends, and nothing that it made works on unseen.

Each run stops a worker at one point (dead, or asleep while a second one does the work),
with one fault of the provider in each call. When it has ended nothing is valid at the
provider, or a finding says so, or the inventory looks within 30 seconds and ends it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.utils import timezone

from approvals.ports import Later, LostClaim, Unfinished
from keyvault.audit.models import Event
from keyvault.connections import reconcile, schedule, trial_work, trials, trying
from keyvault.connections.models import Connection, Trial
from keyvault.findings.models import Finding
from keyvault.providers import base
from keyvault.providers.base import Recovery
from keyvault.vault.models import Sealed
from tests.keyvault.connections import fakes
from tests.keyvault.connections.conftest import with_credential
from tests.keyvault.connections.fakes import After, Claims, Crash, Hang
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)

WAYS = {
    "we choose the value": lambda: fakes.Fake(Recovery.CLIENT),
    "found by its tag": lambda: fakes.Fake(Recovery.TAGGED),
    "for one run": fakes.Minter,
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
    "hangs": Hang(base.Ambiguous("no answer in time")),
    "hangs, then happens": Hang(After(base.Ambiguous("no answer in time"))),
    "away for good": [base.Ambiguous("away")] * 60,
}
POINTS = [
    "try:check",
    "try:prepare",
    "try:announced",
    "try:called",
    "try:create",
    "try:validate",
    "try:find",
    "try:revoke",
    "try:refuse",
    "try:gone",
    "try:passed",
]
STOPS = ["dies", "sleeps"]
FAULTY = [("create", "mint"), ("revoke", "end", "find")]
MATRIX = list(product(POINTS, STOPS, FAULTS, FAULTY, WAYS))
SAMPLE = MATRIX[::37]
MOST_TRIES = 40
LAST = 6


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(trial_work, "PATIENCE_S", 0.0)


class Driver:
    """A test run, and the workers that try it one after the other, as the queue has them."""

    def __init__(self, trial, fake):
        self.trial, self.fake = trial, fake
        self.claims, self.tries = Claims(timezone.now(), trial.request_id), 0

    def row(self):
        return Trial.objects.select_related("connection").get(pk=self.trial.pk)

    def die(self):
        raise Crash("at the point")

    def work(self):
        """Try once, as a worker would; say whether it is over."""
        run = self.claims.claim()
        self.tries += 1
        run.is_last = self.tries >= LAST
        try:
            trying.work_on(self.row(), run)
        except Crash:
            # The process is gone, and with it its session.
            connection.close()
        except (Later, Unfinished, LostClaim):
            pass
        if self.tries > LAST and self.row().is_open:
            self.given_up()
        return not self.row().is_open

    def given_up(self):
        """Do what the clock does where the last worker has died, too."""
        with transaction.atomic():
            trials.give_up(self.row(), "The worker died.", now=timezone.now())

    def to_the_end(self):
        for _ in range(MOST_TRIES):
            if self.work():
                return
        raise AssertionError(f"it hangs in {self.row().state}: {self.row().steps}")


@pytest.fixture
def driver(cast, _registry):
    def make(way):
        fake = fakes.install(WAYS[way]())
        where = with_credential(rows.connection(cast, provider=fake.kind), cast.now)
        with transaction.atomic():
            trial = trials.begin(
                connection_id=where.pk,
                request_id=uuid4(),
                started_by="Frank",
                options={},
                actor=WORKER,
                now=timezone.now(),
            )
        Connection.objects.update(inventory_due_at=timezone.now() + schedule.PERIOD)
        return Driver(trial, fake)

    return make


def play(driver, point, stop, fault, methods):
    """Stop the first worker at a point, one way or the other, with one fault in each call."""
    found = FAULTS[fault]
    for method in methods:
        if isinstance(found, list):
            driver.fake.fail(method, *found)
        else:
            driver.fake.fail(method, replace(found, meanwhile=driver.to_the_end))
    driver.claims.hooks[point] = driver.to_the_end if stop == "sleeps" else driver.die
    driver.to_the_end()
    finished(driver)


def finished(driver):
    """Check what must hold when it has ended, and after the next look of the inventory."""
    row, told = driver.row(), Finding.objects.filter(closed_at=None)
    due = row.connection.inventory_due_at
    if driver.fake.alive() and not told.exists():
        assert due <= timezone.now() + timedelta(seconds=30), "something works on unseen"
    moves = Event.objects.filter(event="trial.moved", fields__state__in=["passed", "failed"])
    assert [line.fields["state"] for line in moves] == [row.state]
    assert not Sealed.objects.exclude(subject_kind="connection").exists()
    written = repr([list(Event.objects.values()), list(Finding.objects.values()), row.steps])
    assert "canary" not in written
    assert not [word for word in driver.fake.values.values() if repr(word)[2:-1] in written]
    driver.fake.faults = {}
    reconcile.look(row.connection_id, Claims(timezone.now()).claim())
    if driver.fake.alive():
        assert told.filter(kind="unanswered").exists(), "nobody was told"
    else:
        assert not told.filter(kind="orphan").exists()


@pytest.mark.parametrize("way", WAYS)
def test_the_points_are_those_that_a_test_run_passes(driver, way):
    found = driver(way)
    run = found.claims.claim()

    trying.work_on(found.row(), run)

    unlisted = {"try:find", "try:gone"} if way == "for one run" else set()
    assert run.passed == [point for point in POINTS if point not in unlisted]
    assert found.row().state == "passed"
    assert found.fake.made + len(found.fake.keys) >= 1
    finished(found)


@pytest.mark.parametrize(("point", "stop", "fault", "methods", "way"), SAMPLE)
def test_a_sample_of_the_matrix(driver, point, stop, fault, methods, way):
    play(driver(way), point, stop, fault, methods)


@pytest.mark.campaign
@pytest.mark.parametrize(("point", "stop", "fault", "methods", "way"), MATRIX)
def test_the_whole_matrix(driver, point, stop, fault, methods, way):
    play(driver(way), point, stop, fault, methods)
