"""Agents that came to a key while it was rotated, and whose version is not ended under them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from keyvault.inventory.models import DeliveryMode
from keyvault.rotation import choosing
from keyvault.rotation.models import Delivery
from tests.keyvault.agents import builders
from tests.keyvault.reads import builders as reads
from tests.keyvault.rotation.test_running import later
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def late(cast, key):
    """An agent that may use the key, and has not until now."""
    key.delivery_mode = DeliveryMode.PULL
    key.save()
    agent = builders.agent(cast, "late-bot")
    builders.granted(cast, agent, key)
    return agent


@pytest.fixture
def read(key, late):
    """Have the agent fetch a version from a gateway."""

    def call(number, *, after_s=1):
        at = timezone.now() + timedelta(seconds=after_s)
        reads.shipped(1, at=at, agent_id=late.pk, key_id=key.pk, number=number)

    return call


def states(rotation):
    rows = Delivery.objects.filter(rotation=rotation).select_related("dependent")
    return {row.dependent.name: row.state for row in rows}


def test_an_agent_that_began_with_the_old_version_is_waited_for(begin, work, late, read, fake, now):
    rotation = begin(now=now - timedelta(minutes=1))
    assert states(rotation) == {}
    read(1, after_s=-30)
    assert work(rotation).state == "draining"
    later(rotation, 5)

    assert work(rotation).state == "draining"

    assert states(rotation) == {"late-bot": "restarting"}
    assert len(fake.alive()) == 2
    read(2, after_s=-20)
    work(rotation)
    later(rotation, 5)
    assert work(rotation).state == "completed"


def test_an_agent_that_began_with_the_new_version_is_led_back(begin, work, late, read, fake, now):
    rotation = begin()
    assert work(rotation).state == "draining"
    read(2)
    choosing.roll_back(rotation_id=rotation.pk, reason="No.", actor=WORKER, now=now)

    assert work(rotation, tries=2).state == "rolling_back"

    assert len(fake.alive()) == 2
    read(1, after_s=2)
    assert work(rotation).state == "rolled_back"


def test_an_agent_that_has_the_new_version_is_no_part_of_it(begin, work, late, read):
    rotation = begin()
    work(rotation)
    read(2)
    later(rotation, 5)

    assert work(rotation).state == "completed"
    assert states(rotation) == {}
