"""Whatever dies, is lost or comes late in a rotation: it ends, and never leaves anybody without a key.

Each run stops a worker at one point (dead, or paused while a second one does
the work), with one fault of the provider in each call that changes something
or tells; fresh tries then go on as the queue would have it. The invariants of
ROTATION.md are checked after every call of the provider.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
from django.db import connection
from django.utils import timezone

from approvals.models import Job
from approvals.ports import Later, LostClaim, Unfinished
from keyvault.connections import reconcile
from keyvault.connections.models import Attempt, AttemptState
from keyvault.findings.models import Finding, FindingKind
from keyvault.providers import base
from keyvault.providers.base import Recovery
from keyvault.rotation import running
from keyvault.rotation.models import ENDED, Delivery, Rotation
from keyvault.usage.models import LoadedVersion
from keyvault.vault import selectors as versions
from keyvault.vault.models import Version
from tests.keyvault.connections import fakes
from tests.keyvault.connections.fakes import After, Claims, Crash, Hang
from tests.keyvault.rotation.test_running import later, reader, report  # noqa: F401 - fixtures.

pytestmark = pytest.mark.django_db(transaction=True)

RECOVERIES = [Recovery.CLIENT, Recovery.NAMED, Recovery.TAGGED, Recovery.DIFF]
FAULTS = {
    "none": [],
    "lost before": [base.Ambiguous("lost")],
    "lost after": [After(base.Ambiguous("lost"))],
    "429": [base.Transient("too many", retry_after_s=1.0)],
    "500": [RuntimeError("a fault of the plug-in")],
    "500 after": [After(RuntimeError("a fault of the plug-in"))],
    "crash in the call": [Crash("in the call")],
    "crash after the call": [After(Crash("in the call"))],
    "create hangs": {"create": Hang(base.Ambiguous("no answer in time"))},
    "create hangs, then happens": {"create": Hang(After(base.Ambiguous("no answer in time")))},
    "revoke hangs": {"revoke": Hang(base.Ambiguous("no answer in time"))},
    "revoke hangs, then happens": {"revoke": Hang(After(base.Ambiguous("no answer in time")))},
}
POINTS = [
    "create:attempted",
    "create:called",
    "create:stored",
    "create:validated",
    "create:promoted",
    "rotation:creating",
    "rotation:create",
    "rotation:validate",
    "rotation:stage",
    "rotation:promoting",
    "rotation:promote",
    "rotation:try_old",
    "rotation:draining",
    "rotation:brownout",
    "suspend:asked",
    "suspend:called",
    "rotation:suspend_old",
    "rotation:revoking",
    "revoke:attempted",
    "revoke:called",
    "revoke:verified",
    "revoke:recorded",
    "rotation:revoke_old",
    "rotation:finish",
]
# What a rotation passes in place of its end when somebody fails in the brown-out.
RESUME_POINTS = ["resume:called", "rotation:resume_old", "rotation:held"]
WAYS = ["dies", "sleeps"]
MOST_TRIES = 60
MATRIX = list(product(POINTS, WAYS, FAULTS, RECOVERIES))
# Every point, way and fault is in it, each pair of neighbours in turn.
SAMPLE = [MATRIX[number] for number in range(0, len(MATRIX), 97)]
RESUMES = list(product(RESUME_POINTS, WAYS, FAULTS))
RESUMES_SAMPLE = RESUMES[::7]


class Driver:
    """A rotation, who works at it, and the agent that follows it."""

    def __init__(self, rotation, key, fake, report):  # noqa: F811
        self.rotation, self.key, self.fake, self.report = rotation, key, fake, report
        self.claims = Claims(timezone.now(), rotation.pk)
        self.on = 1
        self.calls = 0
        self.is_ill_without_the_old = False
        fake._pass = self.watched(fake._pass)

    def watched(self, inner):
        def passed(method):
            if method in ("create", "revoke", "validate", "inventory", "suspend", "resume"):
                self.check()
            return inner(method)

        return passed

    def row(self):
        return Rotation.objects.get(pk=self.rotation.pk)

    def die(self):
        raise Crash("at the point")

    def work(self):
        """Try once, as a worker would; say whether another try may do more."""
        run = self.claims.claim()
        run.kind = "rotation.step"
        try:
            running.run(self.rotation.pk, run)
        except Crash:
            connection.close()
        except Later:
            self.time_passes()
        except (Unfinished, RuntimeError, LostClaim):
            later(self.rotation, 1)
        self.check()
        return self.row().state not in ENDED and self.row().state != "held"

    def time_passes(self):
        """Let the agent take what is current and say so, and five seconds go by."""
        self.on = versions.current(self.key.pk).number
        is_off = self.row().brownout_at is not None
        self.report(self.on, healthy=not (is_off and self.is_ill_without_the_old))
        later(self.rotation, 1 if self.is_ill_without_the_old and is_off else 5)

    def to_the_end(self):
        for _ in range(MOST_TRIES):
            if not self.work():
                return self.row()
        raise AssertionError(f"it hangs in {self.row().state}")

    def check(self):
        """I1, I2, I3 and I5, against the provider and the database."""
        self.calls += 1
        alive = {one.remote_id for one in self.fake.alive()}
        current = versions.current(self.key.pk)
        assert current.remote_id in alive, "I1: what is current does not work"
        held = Version.objects.get(key=self.key, number=self.on)
        assert held.remote_id in alive, "I2: the agent's version was ended"
        rows = Rotation.objects.filter(key=self.key).exclude(state__in=ENDED)
        assert rows.count() <= 1, "I5"
        old = Version.objects.get(pk=self.rotation.old_id)
        # What is switched off for a while is not ended: it is switched on for whoever fails.
        is_off = old.suspended_at is not None and self.row().state == "brownout"
        if old.remote_id not in alive and not is_off:
            parts = Delivery.objects.filter(rotation=self.rotation)
            assert all(one.state == "confirmed" for one in parts), "I3"


@pytest.fixture
def fake(_registry, recovery):
    return fakes.install(fakes.Switch(recovery))


@pytest.fixture
def terms(settings):
    """Each rotation of the matrix has a brown-out."""
    settings.ROTATION_GRACE_SECONDS, settings.ROTATION_QUIET_SECONDS = 100, 1
    settings.ROTATION_BROWNOUT_SECONDS = 3


@pytest.fixture
def driver(begin, key, fake, reader, report):  # noqa: F811
    """Return a function that begins a rotation at a provider of one recovery class."""

    def make(recovery):
        fake.recovery = recovery
        return Driver(begin(), key, fake, report)

    return make


def finished(driver):
    """Check what must hold in the end: completed, back, or held with its owner told."""
    row = driver.row()
    if row.state == "held":
        assert Finding.objects.filter(kind=FindingKind.ROTATION, closed_at=None).exists()
        return
    assert row.state == "completed", row.sentence
    # I4: whatever carries our label is known, or is ended by the inventory.
    Job.objects.all().delete()
    run = Claims(timezone.now()).claim()
    reconcile.look(driver.key.connection_id, run)
    current = versions.current(driver.key.pk)
    assert [one.remote_id for one in driver.fake.alive()] == [current.remote_id]
    assert current.number == driver.on
    assert not Attempt.objects.filter(state=AttemptState.OPEN).exists()
    assert not LoadedVersion.objects.filter(number__gt=current.number).exists()


def faults(driver, fault, method):
    """Return what befalls the calls of one method; who hangs is overtaken by another worker."""
    found = FAULTS[fault]
    if isinstance(found, list):
        return found
    hanging = [found[method]] if method in found else []
    return [replace(one, meanwhile=driver.to_the_end) for one in hanging]


def play(driver, point, way, fault):
    """Stop the first worker at a point, one way or the other, with one fault in each call."""
    for method in ("create", "validate", "suspend", "resume", "revoke"):
        driver.fake.fail(method, *faults(driver, fault, method))
    driver.claims.hooks[point] = driver.to_the_end if way == "sleeps" else driver.die
    driver.to_the_end()
    finished(driver)


def test_the_points_are_those_that_a_rotation_passes(driver):
    found = driver(Recovery.CLIENT)
    passed = set()
    for _ in range(MOST_TRIES):
        run = found.claims.claim()
        run.kind = "rotation.step"
        try:
            running.run(found.rotation.pk, run)
        except Later:
            found.time_passes()
        passed |= set(run.passed)
        if found.row().state in ENDED:
            break
    assert found.row().state == "completed"
    assert passed == set(POINTS)


@pytest.mark.parametrize(("point", "way", "fault", "recovery"), SAMPLE)
def test_a_sample_of_the_matrix(driver, point, way, fault, recovery):
    play(driver(recovery), point, way, fault)


@pytest.mark.campaign
@pytest.mark.parametrize(("point", "way", "fault", "recovery"), MATRIX)
def test_the_whole_matrix(driver, point, way, fault, recovery):
    play(driver(recovery), point, way, fault)


def play_resume(driver, point, way, fault):
    """The same, where the agent fails without the old version: that works in the end."""
    driver.is_ill_without_the_old = True
    play(driver, point, way, fault)
    row = driver.row()
    assert (row.state, row.cause, row.misses) == ("held", "needed", 1)
    old = Version.objects.get(pk=row.old_id)
    assert old.suspended_at is None
    assert old.remote_id in {one.remote_id for one in driver.fake.alive()}


@pytest.mark.parametrize(("point", "way", "fault"), RESUMES_SAMPLE)
def test_a_sample_of_brown_outs_that_somebody_misses(driver, point, way, fault):
    play_resume(driver(Recovery.CLIENT), point, way, fault)


@pytest.mark.campaign
@pytest.mark.parametrize(("point", "way", "fault"), RESUMES)
def test_all_brown_outs_that_somebody_misses(driver, point, way, fault):
    play_resume(driver(Recovery.CLIENT), point, way, fault)


def test_three_lost_answers_in_a_row_leave_one_credential(driver):
    found = driver(Recovery.TAGGED)
    found.fake.fail("create", *[After(base.Ambiguous("lost"))] * 3)

    found.to_the_end()

    finished(found)
    assert found.row().ended_at - found.rotation.created_at < timedelta(hours=1)
