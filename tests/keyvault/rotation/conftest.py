"""A live key at a fake provider, and a worker that runs its rotation."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from approvals import queue
from approvals.models import Job
from keyvault.connections import issuing
from keyvault.inventory.models import Key
from keyvault.rotation import choosing, services
from keyvault.rotation.models import Delivery, Rotation, Trigger
from tests.keyvault.connections.conftest import (  # noqa: F401 - fixtures.
    _registry,
    claims,
    fake,
    recovery,
    request_id,
    where,
)
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER


@pytest.fixture
def terms(settings):
    settings.ROTATION_GRACE_SECONDS, settings.ROTATION_QUIET_SECONDS = 100, 1


@pytest.fixture
def options():
    """Return the settings of the key at its provider."""
    return {}


@pytest.fixture
def key(cast, where, options, request_id, claims):  # noqa: F811
    made = rows.key(cast, where, request_id=request_id, options=options)
    issuing.issue(key=made, request_id=request_id, run=claims.claim(), actor=WORKER)
    made.state, made.live_at = "live", cast.now
    made.expires_at = cast.now.replace(year=cast.now.year + 1)
    made.save()
    return made


@pytest.fixture
def begin(key, cast, terms):
    """Begin a rotation and return it."""

    def call(of=None, **more):
        with transaction.atomic():
            return services.begin(
                key_id=(of or key).pk,
                trigger=more.pop("trigger", Trigger.MANUAL),
                request_id=key.request_id or uuid4(),
                started_by="alice",
                actor=WORKER,
                now=more.pop("now", cast.now),
                **more,
            )

    return call


@pytest.fixture
def work(now):
    """Run the job of a rotation until it waits, is held or is over; return the rotation."""

    def call(rotation, tries=1):
        for _ in range(tries):
            Job.objects.filter(subject_id=rotation.pk, state="ready").update(due_at=now)
            for job in Job.objects.filter(subject_id=rotation.pk, state__in=["ready", "running"]):
                queue.run(job.pk, worker="test", now=now)
        return Rotation.objects.select_related("key").get(pk=rotation.pk)

    return call


@pytest.fixture
def fresh():
    """Read the key again."""
    return lambda key: Key.objects.get(pk=key.pk)


@pytest.fixture
def later():
    """Let time pass for a rotation, by the database's clock."""

    def call(rotation, seconds):
        past = timezone.now() - timedelta(seconds=seconds)
        Rotation.objects.filter(pk=rotation.pk).update(since=past)
        Rotation.objects.filter(pk=rotation.pk, quiet_since__isnull=False).update(quiet_since=past)

    return call


@pytest.fixture
def rolled_out(work, now):
    """Run a rotation until its owner is waited for, who then has the new value in use."""

    def call(rotation):
        assert work(rotation).state == "promoting"
        for delivery in Delivery.objects.filter(rotation=rotation):
            choosing.confirm(delivery_id=delivery.pk, actor=WORKER, now=now)
        return work(rotation)

    return call
