"""Business tables and ledger agree after everything that people can do (R54)."""

import pytest
from django.db import connection

from tests.approvals.conftest import house, world
from tests.keyvault.audit.reconciliation import differences
from tests.keyvault.inventory import builders

__all__ = ["house", "world"]

pytestmark = pytest.mark.django_db


# The builders of the tests put the Connection straight into its table.
BUILT = frozenset({"connection.created"})


@pytest.fixture
def worked(house):
    """Requests decided each way, done and returned; a key asked for, and one in use."""
    house.work(house.approved(wall="east"))
    returned = house.ask(user=house.cast.alice, reason="Once more.", wall="south")
    house.say(house.cast.bob, returned, "changes", comment="Say for how long.")
    rejected = house.ask(wall="west")
    house.say(house.cast.bob, rejected, "reject", comment="No.")
    builders.live(house.cast, now=house.now)
    builders.requested(house.cast, name="asked-for")
    return house


def test_r54_each_fact_has_exactly_one_event(worked):
    assert differences(leave_out=BUILT) == {}


def test_r54_a_fact_without_event_is_found(worked):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("DELETE FROM keyvault_event WHERE event = 'key.requested'")
        cursor.execute("SET LOCAL session_replication_role = origin")

    assert set(differences(leave_out=BUILT)) == {"key.requested"}
