"""Days of reads come and go by the owner's rule; the serving role can only add."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from keyvault.audit import checkpoints, protection, sequencer, verify
from keyvault.audit.models import Event
from keyvault.audit.reads import days, segments
from keyvault.audit.reads.models import ReadEvent, ReadRetention, ReadSegment
from keyvault.usage import reads as usage
from tests.keyvault.reads import builders

pytestmark = pytest.mark.django_db


def _partitions() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits"
            " WHERE inhparent = 'keyvault_readevent'::regclass"
        )
        return {name.removeprefix("keyvault_readevent_") for (name,) in cursor.fetchall()}


def _made_by_hand(day: datetime) -> None:
    """Make the partition of a day that is over, as the clock made it then."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE keyvault_readevent_{day:%Y%m%d} PARTITION OF keyvault_readevent"
            f" FOR VALUES FROM ('{day:%Y-%m-%d}Z') TO ('{day + timedelta(days=1):%Y-%m-%d}Z')"
        )


def _written_and_counted() -> None:
    """Do what must be done with reads before their day may go."""
    segments.record_due(timezone.now())
    usage.roll_up()


def _day(ago: int) -> datetime:
    return datetime.now(UTC).replace(hour=12) - timedelta(days=ago)


def test_the_coming_week_has_its_partitions():
    days.keep(timezone.now())

    assert _partitions() >= {f"{_day(-ahead):%Y%m%d}" for ahead in range(8)} | {"other"}


def test_a_read_of_a_day_without_partition_is_kept_all_the_same():
    builders.shipped(3, at=_day(50))

    days.keep(timezone.now())

    assert ReadEvent.objects.count() == 3


def test_days_past_their_time_are_dropped_with_an_event(settings):
    days.set_retention(30)
    old, young = _day(40), _day(10)
    _made_by_hand(old)
    _made_by_hand(young)
    builders.shipped(4, at=old)
    builders.shipped(5, at=young)
    builders.shipped(6)
    _written_and_counted()

    assert days.keep(timezone.now()) == 1

    assert ReadEvent.objects.count() == 11
    assert ReadSegment.objects.count() == 3
    event = Event.objects.get(event="reads.dropped")
    assert event.fields["count"] == 4
    assert event.fields["until"][:10] == f"{old + timedelta(days=1):%Y-%m-%d}"
    assert f"{old:%Y%m%d}" not in _partitions()


def test_old_reads_without_a_day_of_their_own_are_dropped_once_all_of_them_are_old():
    days.set_retention(30)
    builders.shipped(4, at=_day(40))
    builders.shipped(4, at=_day(20))
    _written_and_counted()

    assert days.keep(timezone.now()) == 0
    days.set_retention(10)
    assert days.keep(timezone.now()) == 1

    assert ReadEvent.objects.count() == 0
    assert "other" in _partitions()


def test_nothing_is_dropped_before_the_ledger_has_it():
    days.set_retention(30)
    builders.shipped(4, at=_day(40))

    assert days.keep(timezone.now()) == 0
    assert ReadEvent.objects.count() == 4


def test_nothing_is_dropped_before_its_use_is_counted():
    days.set_retention(30)
    builders.shipped(4, at=_day(40))
    segments.record_due(timezone.now())

    assert days.keep(timezone.now()) == 0
    usage.roll_up()
    assert days.keep(timezone.now()) == 1


def test_what_was_dropped_is_no_fault(keys):
    days.set_retention(30)
    builders.shipped(4, at=_day(40))
    builders.shipped(2)
    _written_and_counted()
    days.keep(timezone.now())
    sequencer.drain()
    checkpoints.run_once(timezone.now(), is_forced=True)

    result = verify.verify(timezone.now())

    assert result.problems == []
    assert result.reads == 2


REFUSED = [
    "UPDATE keyvault_readevent SET source = 'x'",
    "DELETE FROM keyvault_readevent",
    "TRUNCATE keyvault_readevent",
    "DROP TABLE keyvault_readevent",
    "DELETE FROM keyvault_readevent_other",
    "INSERT INTO keyvault_readevent_other SELECT * FROM keyvault_readevent",
    "SELECT 1 FROM keyvault_readevent_{today}",
    "UPDATE keyvault_readsegment SET root = ''",
    "DELETE FROM keyvault_readsegment",
    "UPDATE keyvault_readretention SET days = 7",
    "INSERT INTO keyvault_readretention VALUES (1, 7)",
    "SELECT keyvault_guard_read_day('keyvault_user')",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_r50_the_serving_role_can_neither_change_nor_shorten(as_app, statement):
    builders.shipped(1)

    with (
        pytest.raises(DatabaseError),
        transaction.atomic(),
        as_app(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement.format(today=f"{datetime.now(UTC):%Y%m%d}"))


def test_the_serving_role_ships_records_and_keeps_the_days(as_app):
    days.set_retention(30)
    with transaction.atomic(), as_app():
        builders.shipped(4, at=_day(40))
        builders.shipped(4)
    _written_and_counted()

    with transaction.atomic(), as_app(), connection.cursor() as cursor:
        cursor.execute("SELECT keyvault_make_read_days()")
        cursor.execute("SELECT reads FROM keyvault_drop_read_days()")
        assert cursor.fetchall() == [(4,)]


OWNER_REFUSED = [
    "UPDATE keyvault_readevent SET source = 'x'",
    "DELETE FROM keyvault_readevent",
    "TRUNCATE keyvault_readevent",
    "TRUNCATE keyvault_readevent_{today}",
    "TRUNCATE keyvault_readevent_other",
    "DELETE FROM keyvault_readevent_{today}",
    "DELETE FROM keyvault_readsegment",
    "TRUNCATE keyvault_readsegment",
    "UPDATE keyvault_readsegment SET last = 3",
    "UPDATE keyvault_readsegment SET event_id = NULL",
]


@pytest.mark.parametrize("statement", OWNER_REFUSED)
def test_r50_the_triggers_refuse_the_owner_too(statement):
    builders.shipped(1)
    _written_and_counted()

    with connection.cursor() as cursor:
        # What the test itself has written waits for its checks until then.
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with (
        pytest.raises(DatabaseError, match=r"append-only|foreign key"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement.format(today=f"{datetime.now(UTC):%Y%m%d}"))


def test_the_retention_is_at_least_a_week():
    with pytest.raises(DatabaseError), transaction.atomic():
        days.set_retention(6)
    days.set_retention(7)
    assert ReadRetention.objects.get().days == 7


def test_reads_do_not_change_how_the_ledger_is_protected():
    assert protection.found() is protection.Protection.TRIGGER
