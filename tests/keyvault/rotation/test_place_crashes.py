"""Whatever dies, is lost or comes late while places are written: nobody reads a dead credential there.

Each run stops a worker at one point of a rotation (dead, or paused while a
second one does the work) with one fault of the place, and lets fresh tries go
on as the queue would have it. What lies at each place is tried at the provider
after every try.
"""

from __future__ import annotations

from itertools import product

import pytest
from django.db import connection
from django.utils import timezone

from approvals.ports import Later, LostClaim, Unfinished
from keyvault.dependents.models import Dependent
from keyvault.destinations.base import Health, State
from keyvault.findings.models import Finding, FindingKind
from keyvault.rotation import choosing, running
from keyvault.rotation.models import ENDED, Rotation
from keyvault.vault.models import Version
from tests.keyvault.connections.fakes import Claims, Crash
from tests.keyvault.rotation.test_places import (  # noqa: F401 - fixtures.
    _watched,
    account,
    later,
    live,
    places,
    push,
    run_job,
)
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)

POINTS = [
    "rotation:stage",
    "rotation:promoting",
    "push:noted",
    "push:written",
    "push:recorded",
    "rotation:promote",
    "rotation:try_old",
    "rotation:draining",
    "revoke:called",
    "rotation:finish",
]
FAULTS = ["none", "request", "answer", "down"]
WAYS = ["on", "back"]
MATRIX = list(product(POINTS, ["dies", "sleeps"], FAULTS, WAYS))
SAMPLE = [MATRIX[number] for number in range(0, len(MATRIX), 23)]
MOST_TRIES = 60


class Driver:
    """A rotation with a canary and a second wave, who works at it, and what lies at the places."""

    def __init__(self, rotation, fake, places):  # noqa: F811
        self.rotation, self.fake, self.places = rotation, fake, places
        self.claims = Claims(timezone.now(), rotation.pk)

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
        except (Later, Unfinished, LostClaim):
            later(self.rotation, 5)
        self.check()
        for place in self.places.at.values():
            place.fault = ""
        return self.row().state not in ENDED and self.row().state != "held"

    def to_the_end(self):
        for _ in range(MOST_TRIES):
            if not self.work():
                return
        raise AssertionError(f"it hangs in {self.row().state}")

    def check(self):
        """I2 for whoever reads at a place, and I5."""
        alive = {one.remote_id for one in self.fake.alive()}
        for name in ("canary", "rest"):
            there = Version.objects.get(pk=live(self.places, name))
            assert there.remote_id in alive, f"I2: what lies at {name} was ended"
        rows = Rotation.objects.filter(key=self.rotation.key).exclude(state__in=ENDED)
        assert rows.count() <= 1, "I5"


def play(driver, point, way, fault, direction):
    """Stop the first worker at a point with one fault at each place; send it on or back."""
    if direction == "back":
        driver.places.health["rest"] = Health(State.BAD, "It crashes.")
    for place in driver.places.at.values():
        place.fault = "" if fault == "none" else fault
    driver.claims.hooks[point] = driver.to_the_end if way == "sleeps" else driver.die
    driver.to_the_end()
    row = driver.row()
    if row.state == "held":
        assert Finding.objects.filter(kind=FindingKind.ROTATION, closed_at=None).exists()
        driver.places.health.clear()
        choosing.extend(rotation_id=row.pk, reason="Mended.", actor=WORKER, now=timezone.now())
        driver.to_the_end()
        row = driver.row()
    assert row.state == ("completed" if direction == "on" else "rolled_back"), row.sentence
    wanted = row.new_id if row.state == "completed" else row.old_id
    assert {live(driver.places, name) for name in ("canary", "rest")} == {str(wanted)}
    known = set(Dependent.objects.values_list("live_id", "tried_id"))
    assert known == {(wanted, None)}
    assert len(driver.fake.alive()) == 1


@pytest.fixture
def driver(begin, push, places, fake):  # noqa: F811
    push("canary"), push("rest", wave=1)
    return Driver(begin(), fake, places)


def test_the_points_of_the_places_are_passed(driver):
    passed = set()
    for _ in range(MOST_TRIES):
        run = driver.claims.claim()
        run.kind = "rotation.step"
        try:
            running.run(driver.rotation.pk, run)
        except Later:
            later(driver.rotation, 5)
        passed |= set(run.passed)
        if driver.row().state in ENDED:
            break
    assert driver.row().state == "completed"
    assert passed >= set(POINTS)


@pytest.mark.parametrize(("point", "way", "fault", "direction"), SAMPLE)
def test_a_sample_of_the_places(driver, point, way, fault, direction):
    play(driver, point, way, fault, direction)


@pytest.mark.campaign
@pytest.mark.parametrize(("point", "way", "fault", "direction"), MATRIX)
def test_all_of_the_places(driver, point, way, fault, direction):
    play(driver, point, way, fault, direction)
