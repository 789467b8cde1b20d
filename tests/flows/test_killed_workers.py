"""Workers are killed with SIGKILL at every step, before a real server (R55 to R57)."""

from __future__ import annotations

import signal

import pytest

from keyvault.connections.models import Attempt, AttemptState
from keyvault.inventory.models import Key
from keyvault.providers.testing import Fault
from keyvault.vault import selectors as versions
from tests.flows.house import RealHouse

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

CREATE = [
    "execute:claimed",
    *(f"create:{step}" for step in ("attempted", "called", "stored", "validated", "promoted")),
    "create:live",
    "execute:acted",
]
REVOKE = [
    "execute:claimed",
    *(f"revoke:{step}" for step in ("attempted", "called", "verified", "recorded", "closed")),
    "execute:acted",
]
KILLED = -signal.SIGKILL


def created(house: RealHouse, name: str = "ledger-reader") -> Key:
    request = house.approved_create(name)
    house.work_until_done(request)
    return Key.objects.get(request_id=request.pk)


def one_credential_lives(house: RealHouse, key: Key) -> bool:
    version = versions.current(key.pk)
    assert version is not None
    assert house.living() == [version.remote_id]
    assert not Attempt.objects.filter(state=AttemptState.OPEN).exists()
    return house.can_log_in(*house.password(key))


def test_an_approved_request_becomes_a_login_and_ends_it_again(real_house):
    key = created(real_house)
    assert one_credential_lives(real_house, key)
    login = real_house.password(key)

    real_house.work_until_done(real_house.approved_revoke(key))

    assert real_house.living() == []
    assert not real_house.can_log_in(*login)
    key.refresh_from_db()
    assert key.state == "revoked"


@pytest.mark.parametrize("point", CREATE)
def test_r55_a_worker_killed_while_creating_leaves_one_credential(real_house, point):
    request = real_house.approved_create()

    assert real_house.work(request, crash_at=point) == KILLED
    real_house.work_until_done(request)

    assert one_credential_lives(real_house, Key.objects.get(request_id=request.pk))


@pytest.mark.parametrize("point", REVOKE)
def test_r55_a_worker_killed_while_revoking_leaves_none(real_house, point):
    key = created(real_house)
    login = real_house.password(key)
    request = real_house.approved_revoke(key)

    assert real_house.work(request, crash_at=point) == KILLED
    real_house.work_until_done(request)

    assert real_house.living() == []
    assert versions.live(key.pk) == []
    assert not real_house.can_log_in(*login)


@pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.LOSE_ANSWER])
@pytest.mark.parametrize("point", ["", "create:recovered", "create:called"])
def test_r56_a_lost_answer_and_then_a_killed_worker_leave_one_credential(real_house, fault, point):
    request = real_house.approved_create()
    with real_house.proxy.failing(fault, b"COMMIT"):
        real_house.work(request)
        assert real_house.proxy.hits
    assert len(real_house.living()) == (1 if fault is Fault.LOSE_ANSWER else 0)

    if point:
        assert real_house.work(request, crash_at=point) == KILLED
    real_house.work_until_done(request)

    assert one_credential_lives(real_house, Key.objects.get(request_id=request.pk))


@pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.LOSE_ANSWER])
def test_r56_a_revocation_whose_answer_is_lost_is_finished(real_house, fault):
    key = created(real_house)
    request = real_house.approved_revoke(key)
    with real_house.proxy.failing(fault, b"COMMIT"):
        real_house.work(request)
        assert real_house.proxy.hits

    real_house.work_until_done(request)

    assert real_house.living() == []
    assert versions.live(key.pk) == []


@pytest.mark.parametrize("point", ["create:attempted", "create:called"])
def test_r57_a_worker_that_slept_through_its_lease_leaves_one_credential(real_house, point):
    request = real_house.approved_create()

    with real_house.paused_worker(request, point):
        real_house.work_until_done(request)

    assert one_credential_lives(real_house, Key.objects.get(request_id=request.pk))


def test_r57_a_worker_that_slept_through_a_revocation_ends_nothing_else(real_house):
    key = created(real_house)
    request = real_house.approved_revoke(key)

    with real_house.paused_worker(request, "revoke:attempted"):
        real_house.work_until_done(request)
        successor = created(real_house, "its-successor")

    assert one_credential_lives(real_house, successor)
