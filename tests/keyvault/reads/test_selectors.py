"""The last reads of a key and of an agent, and reads by hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from keyvault.audit.reads import selectors
from tests.keyvault.gateway.sample import AGENT, KEY
from tests.keyvault.reads import builders

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_the_last_reads_come_newest_first_and_bounded():
    other = uuid4()
    for minute in range(5):
        builders.shipped(2, at=NOON + timedelta(minutes=minute))
    builders.shipped(3, at=NOON, agent_id=other)
    builders.shipped(3, at=NOON, key_id=other)

    of_key = selectors.of_key(KEY, since=NOON, limit=4)
    of_agent = selectors.of_agent(AGENT, since=NOON)

    assert [seen.at.minute for seen in of_key] == [4, 4, 3, 3]
    assert [seen.number_in_log for seen in of_key] == [2, 1, 2, 1]
    assert len(of_agent) == 13
    assert of_key[0].version == 3
    assert selectors.of_agent(other, since=NOON)[0].key == "billing-reader"
    assert selectors.of_key(KEY, since=NOON + HOUR) == ()


def test_reads_are_counted_by_hour_agent_and_key():
    other = uuid4()
    builders.shipped(2, at=NOON)
    builders.shipped(3, at=NOON + HOUR)
    builders.shipped(4, at=NOON + HOUR, agent_id=other)
    builders.shipped(5, at=NOON + 2 * HOUR)

    found = selectors.by_hour(since=NOON, until=NOON + 2 * HOUR)

    assert {(hour.at, hour.agent_id, hour.reads) for hour in found} == {
        (NOON, AGENT, 2),
        (NOON + HOUR, AGENT, 3),
        (NOON + HOUR, other, 4),
    }
    mine = selectors.by_hour(since=NOON, until=NOON + 3 * HOUR, agent_id=other, key_id=KEY)
    assert [hour.reads for hour in mine] == [4]
