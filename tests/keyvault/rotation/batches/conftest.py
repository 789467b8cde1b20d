"""Live keys at a fake provider and batches of them, of which a few are rotated at a time."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction

from approvals.ports import Later
from keyvault.connections import issuing
from keyvault.inventory.models import DeliveryMode
from keyvault.rotation import batches, progress
from keyvault.rotation.models import Rotation
from tests.keyvault.connections import fakes
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

LIMIT = 3


@pytest.fixture(autouse=True)
def limit(settings, terms):
    settings.ROTATION_PER_CONNECTION = LIMIT


@pytest.fixture
def issued(cast, where, now):
    """Return a function that makes live keys; those that agents fetch have nobody to wait for."""

    def make(*names, connection=where, **more):
        found = []
        for name in names:
            request_id = uuid4()
            key = rows.key(cast, connection, name=name, request_id=request_id, **more)
            claims = fakes.Claims(now, request_id)
            issuing.issue(key=key, request_id=request_id, run=claims.claim(), actor=WORKER)
            key.delivery_mode, key.state, key.live_at = DeliveryMode.PULL, "live", now
            key.expires_at = now.replace(year=now.year + 1)
            key.save()
            found.append(key)
        return found

    return make


@pytest.fixture
def some(issued):
    return issued(*(f"agent-{number:02}" for number in range(8)))


@pytest.fixture
def batch(cast, now):
    """Return a function that writes a batch down."""

    def make(keys, trigger="manual"):
        with transaction.atomic():
            return batches.create(
                batch_id=uuid4(),
                key_ids=[key.pk for key in keys],
                trigger=trigger,
                reason="The vendor was broken into.",
                request_id=uuid4(),
                person=cast.alice,
                started_by="Alice",
                actor=WORKER,
                now=now,
            )

    return make


def turn(made, now, *, crash_at="", claims=None):
    """Run the job of a batch once; say whether keys still wait."""
    run = (claims or fakes.Claims(now, made.pk)).claim(crash_at=crash_at)
    try:
        batches.run(made.pk, run)
    except Later:
        return True
    return False


def ended(work, rotation):
    """Bring a rotation to its end, whatever it waits for."""
    from tests.keyvault.rotation.test_running import later

    for _ in range(6):
        found = work(rotation)
        if found.ended_at:
            return found
        later(found, 5)
    raise AssertionError(f"the rotation is {found.state}: {found.sentence}")


def open_rotations():
    return Rotation.objects.filter(ended_at=None)


def adds_up(made, count):
    found = progress.figures(made.pk)
    assert found.total == count, found
    return found


def renewed(key):
    from django.utils import timezone

    from keyvault.vault import selectors as versions

    current = versions.current(key.pk)
    current.issued_at = timezone.now().replace(year=timezone.now().year + 1)
    current.save()
