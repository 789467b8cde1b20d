"""Business tables and ledger agree after everything that people can do (R54)."""

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from keyvault import reconciliation
from keyvault.accounts import services
from tests import cast as people
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


def _write(query, *values):
    with connection.cursor() as cursor:
        cursor.execute(query, values)


def _found():
    return {one.event: (one.rows, one.events) for one in reconciliation.differences()}


def test_the_doctor_finds_nothing_where_only_services_wrote(worked):
    assert _found() == {}


def test_a_forged_membership_is_found(worked):
    _write(
        "INSERT INTO keyvault_membership (user_id, group_id, joined_at)"
        " SELECT %s, id, now() FROM auth_group WHERE name = 'administrators'",
        worked.cast.mallory.pk,
    )

    assert _found() == {"membership.joined": (1, 0)}
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", stdout=out)
    assert "- 1 rows lack their event membership.joined" in out.getvalue()


def test_a_membership_that_was_turned_to_another_group_is_found(worked):
    _write(
        "UPDATE keyvault_membership SET group_id ="
        " (SELECT id FROM auth_group WHERE name = 'administrators') WHERE user_id = %s",
        worked.cast.alice.pk,
    )

    assert _found() == {"membership.joined": (1, 1)}


def test_a_grant_that_was_made_to_give_more_is_found(worked):
    _write("UPDATE keyvault_grant SET permission = 'rotate' WHERE permission = 'manage'")

    assert _found() == {"grant.given": (1, 1)}


def test_a_membership_that_was_made_to_live_again_is_found(worked):
    alice, payments = worked.cast.alice, worked.cast.payments.group
    with transaction.atomic():
        services.end_membership(user=alice, group=payments, now=worked.now, actor=people.HOST)
    assert _found() == {}

    _write("UPDATE keyvault_membership SET left_at = NULL WHERE user_id = %s", alice.pk)

    assert _found() == {"membership.left": (0, 1)}
