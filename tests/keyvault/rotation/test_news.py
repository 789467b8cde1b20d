"""What an agent says or reads hastens the rotation that waits for it, and nothing else does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from approvals.models import Job
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Health
from keyvault.inventory.models import DeliveryMode
from keyvault.rotation import news
from keyvault.rotation.models import Rotation
from keyvault.usage import loaded
from tests.keyvault.agents import builders as agents
from tests.keyvault.reads.builders import shipped
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent(cast):
    return agents.agent(cast)


@pytest.fixture
def waiting(key, agent, begin, work, cast):
    """Return a rotation whose job waits for an agent that reports, or reads."""

    def call(health=Health.REPORTS):
        key.delivery_mode = DeliveryMode.PULL
        key.save()
        with transaction.atomic():
            dependents.register(
                key=key,
                name=agent.name,
                agent_id=agent.pk,
                health=health,
                now=cast.now,
                actor=WORKER,
            )
        rotation = begin()
        assert work(rotation).state == "promoting"
        put_off(rotation)
        return rotation

    return call


def put_off(rotation):
    """Have the job wait for long."""
    Job.objects.filter(subject_id=rotation.pk).update(due_at=timezone.now() + timedelta(hours=1))


def is_due(rotation):
    return Job.objects.filter(subject_id=rotation.pk, due_at__lte=timezone.now()).exists()


def say(key, agent, number, *, is_healthy=True):
    at = timezone.now() + timedelta(seconds=1)
    loaded.report(key_id=key.pk, agent_id=agent.pk, number=number, is_healthy=is_healthy, now=at)


@pytest.mark.parametrize("is_healthy", [True, False])
def test_an_awaited_report_has_the_rotation_look_at_once(waiting, key, agent, work, is_healthy):
    rotation = waiting()
    assert news.hasten() == 0
    assert not is_due(rotation)

    say(key, agent, 2, is_healthy=is_healthy)

    assert news.hasten() == 1
    assert is_due(rotation)
    assert work(rotation).state == ("draining" if is_healthy else "rolling_back")
    put_off(rotation)
    assert news.hasten() == 0, "it knows that already, however often it is said"


def test_a_report_of_the_old_version_is_no_news(waiting, key, agent):
    rotation = waiting()
    say(key, agent, 1)

    assert news.hasten() == 0
    assert not is_due(rotation)


def test_an_awaited_read_has_the_rotation_look_at_once_and_one_before_it_was_in_use_has_not(
    waiting, key, agent
):
    rotation = waiting(Health.READS)
    read = {
        "agent_id": agent.pk,
        "key_id": key.pk,
        "key": key.name,
        "number": 2,
        "at": timezone.now() + timedelta(seconds=1),
    }
    shipped(1, **read, door="pending")
    assert news.hasten() == 0
    shipped(1, **read, door="key")

    assert news.hasten() == 1
    assert is_due(rotation)


def test_a_rotation_that_is_held_stays_so(waiting, key, agent):
    rotation = waiting()
    Rotation.objects.filter(pk=rotation.pk).update(state="held", held_from="promoting")
    say(key, agent, 2)

    assert news.hasten() == 0
    assert not is_due(rotation)
