"""The days of usage: made ahead and dropped in time, by the role that serves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from keyvault import duties
from keyvault.audit.models import Event
from keyvault.audit.reads.models import ReadEvent
from keyvault.usage import days
from keyvault.usage.models import UsageDue, UsageEvent, UsageHour
from tests.keyvault.usage.building import segment, used

pytestmark = pytest.mark.django_db(transaction=True)


def _event(at: datetime) -> None:
    UsageEvent.objects.create(
        id=int(at.timestamp()), at=at, reported_at=at, key_id=uuid4(), host="", count=1
    )


def _partitions(parent: str = "keyvault_usageevent") -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass",
            [parent],
        )
        return {row[0].removeprefix(f"{parent}_") for row in cursor.fetchall()}


def _day(parent: str, at: datetime) -> None:
    """Make the partition of a day in the past, as a clock of that day would have."""
    start = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    name = f"{parent}_{start:%Y%m%d}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE {name} PARTITION OF {parent} FOR VALUES FROM ('{start.isoformat()}')"
            f" TO ('{(start + timedelta(days=1)).isoformat()}')"
        )
        cursor.execute("SELECT keyvault_guard_day(%s)", [name])


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    yesterday = f"{timezone.now() - timedelta(days=1):%Y%m%d}"
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("DROP TABLE IF EXISTS keyvault_usageevent_other")
        for parent in ("keyvault_usageevent", "keyvault_readevent"):
            for name in _partitions(parent) - {"other"}:
                if name < yesterday:
                    cursor.execute(f"DROP TABLE {parent}_{name}")
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("SELECT keyvault_make_usage_days(), keyvault_make_read_days()")


def test_yesterday_and_the_coming_week_have_their_days(now):
    days.keep(now, events_days=90)

    wanted = {f"{now + timedelta(days=ahead):%Y%m%d}" for ahead in range(-1, 8)}
    assert wanted | {"other"} <= _partitions()
    assert "other" in _partitions("keyvault_readevent")


def test_a_day_is_dropped_after_its_time_with_a_line_in_the_ledger_and_never_before(now):
    old, younger = now - timedelta(days=92), now - timedelta(days=89)
    for at in (old, younger):
        _day("keyvault_usageevent", at)
        _event(at)
    _event(now)

    assert days.keep(now, events_days=90) == 1
    assert days.keep(now, events_days=90) == 0

    assert set(UsageEvent.objects.values_list("at", flat=True)) == {younger, now}
    event = Event.objects.get(event="usage.dropped")
    assert event.fields["count"] == 1
    assert datetime.fromisoformat(event.fields["until"]) > old


def test_nobody_can_have_a_day_dropped_within_a_week(now):
    at = now - timedelta(days=6)
    _day("keyvault_usageevent", at)
    _event(at)

    assert days.keep(now, events_days=0) == 0
    assert UsageEvent.objects.count() == 1


def test_a_day_without_a_partition_is_kept_apart_and_dropped_in_time(now):
    old = now - timedelta(days=300)
    _event(old)
    assert UsageEvent.objects.count() == 1

    assert days.keep(now, events_days=301) == 0
    assert days.keep(now, events_days=90) == 1

    assert not UsageEvent.objects.exists()
    assert "other" in _partitions()


def test_sums_are_kept_for_four_hundred_days(now):
    key = uuid4()
    for back in (399, 401):
        used(now - timedelta(days=back), key_id=key)

    days.keep(now, events_days=90)

    assert [hour.hour > now - timedelta(days=400) for hour in UsageHour.objects.all()] == [True]


def test_reads_that_are_not_counted_yet_are_not_dropped(now):
    """Days of reads are kept by the same two functions as days of usage."""
    old = (now - timedelta(days=450)).replace(hour=12)
    _day("keyvault_readevent", old)
    segment(old, key_id=uuid4(), agent_id=uuid4(), count=2)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE keyvault_readsegment SET event_id = gen_random_uuid()")
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("SELECT * FROM keyvault_drop_read_days()")
        assert cursor.fetchall() == []

        UsageDue.objects.all().delete()
        cursor.execute("SELECT reads FROM keyvault_drop_read_days()")
        assert cursor.fetchall() == [(2,)]
    assert not ReadEvent.objects.exists()


@pytest.fixture
def app():
    """Return a connection as `kv_app`, with the rights that the migrations give it."""
    given = connection.settings_dict
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = 'kv_app'")
        if cursor.fetchone() is None:
            cursor.execute("CREATE ROLE kv_app")
        cursor.execute("GRANT USAGE ON SCHEMA public TO kv_app")
        cursor.execute("GRANT kv_app TO CURRENT_USER")
        cursor.execute(_grants())
    with psycopg.connect(
        host=given["HOST"], port=given["PORT"] or 5432, dbname=given["NAME"], user=given["USER"],
        password=given["PASSWORD"], autocommit=True,
    ) as link:  # fmt: skip
        link.execute("SET ROLE kv_app")
        yield link
        link.execute("RESET ROLE")
        link.execute("DROP OWNED BY kv_app")


def _grants() -> str:
    from importlib import import_module

    return import_module("keyvault.migrations.0011_usage").GRANTS


def test_the_serving_role_keeps_the_days_and_can_change_none(app, now):
    _day("keyvault_usageevent", now - timedelta(days=100))
    name = f"keyvault_usageevent_{now - timedelta(days=100):%Y%m%d}"

    for refused in (
        f"DROP TABLE {name}",
        f"SELECT * FROM {name}",
        "DELETE FROM keyvault_usageevent",
        "UPDATE keyvault_usageevent SET count = 2",
        "TRUNCATE keyvault_usageevent",
        "SELECT keyvault_make_days('keyvault_readevent')",
        "SELECT keyvault_drop_days('keyvault_readevent', now())",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(refused)

    app.execute("SELECT keyvault_make_usage_days()")
    dropped = app.execute("SELECT uses FROM keyvault_drop_usage_days(90)").fetchall()
    app.execute(
        "INSERT INTO keyvault_usageevent (at, reported_at, key_id, host, count)"
        " VALUES (now(), now(), gen_random_uuid(), '', 1)"
    )

    assert dropped == [(0,)]
    assert UsageEvent.objects.count() == 1


def test_events_are_append_only_for_everybody(now):
    _event(now)

    for change in ("UPDATE keyvault_usageevent SET count = 2", "DELETE FROM keyvault_usageevent"):
        with (
            pytest.raises(DatabaseError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(change)


def test_the_clock_counts_watches_and_keeps_the_days(now):
    by_name = {duty.name: duty for duty in duties.all_duties(_relay())}

    assert [by_name[name].number for name in ("usage", "misuse", "days of usage")] == [10, 20, 21]
    for name in ("usage", "misuse", "days of usage"):
        by_name[name].run()
    assert len({duty.number for duty in by_name.values()}) == len(by_name)


def _relay():
    from approvals.relay import Relay

    return Relay()
