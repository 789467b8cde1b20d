"""Reads at the gateways become sums, each segment of them exactly once."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction

from keyvault.audit.reads.models import ReadSegment
from keyvault.usage import reads, rollups
from keyvault.usage.models import UsageDue, UsageHour
from tests.keyvault.usage.building import segment

pytestmark = pytest.mark.django_db(transaction=True)
KEY, AGENT = uuid4(), uuid4()


def _total() -> int:
    return sum(UsageHour.objects.values_list("count", flat=True))


def test_reads_are_summed_by_hour_agent_and_address(now):
    hour = rollups.hour_of(now) - timedelta(hours=1)
    segment(hour + timedelta(minutes=59, seconds=58), key_id=KEY, agent_id=AGENT, count=5)
    segment(hour, key_id=KEY, agent_id=AGENT, count=2, source="198.51.100.1")

    assert reads.roll_up() == 2

    rows = UsageHour.objects.order_by("hour", "host")
    assert [(row.hour, row.host, row.count, row.kind) for row in rows] == [
        (hour, "192.0.2.7", 2, "gateway"),
        (hour, "198.51.100.1", 2, "gateway"),
        (hour + timedelta(hours=1), "192.0.2.7", 3, "gateway"),
    ]
    assert rows.last().last_at == hour + timedelta(hours=1, seconds=2)
    assert not UsageDue.objects.exists()


def test_a_segment_counts_once_however_often_the_duty_runs(now):
    segment(now, key_id=KEY, agent_id=AGENT, count=7)

    assert [reads.roll_up() for _ in range(3)] == [1, 0, 0]
    assert _total() == 7


def test_a_segment_that_comes_late_is_counted_too(now):
    """A gateway that was away ships reads of last week after those of today."""
    process = segment(now, key_id=KEY, agent_id=AGENT, count=3, first=100)
    reads.roll_up()

    segment(now - timedelta(days=6), key_id=KEY, agent_id=AGENT, count=4, process=process)
    reads.roll_up()

    assert _total() == 7
    assert UsageHour.objects.count() >= 2


def test_a_segment_whose_transaction_is_open_is_neither_lost_nor_counted_early(now):
    """Ids are given before the commit: one that commits late has a lower id than others done."""
    late = segment(now, key_id=KEY, agent_id=AGENT, count=2)
    slow, ready = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            list(UsageDue.objects.select_for_update())
            ready.set()
            slow.wait(10)
        connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait(10)
    segment(now, key_id=KEY, agent_id=AGENT, count=5)
    reads.roll_up()
    before = _total()
    slow.set()
    holder.join()
    reads.roll_up()

    assert (before, _total()) == (5, 7)
    assert ReadSegment.objects.filter(process=late).exists()


def test_a_clock_that_dies_between_taking_and_adding_has_done_nothing(now, monkeypatch):
    segment(now, key_id=KEY, agent_id=AGENT, count=6)
    add = rollups.add

    def die_before(_tallies):
        raise KeyboardInterrupt

    def die_after(tallies):
        add(tallies)
        raise KeyboardInterrupt

    for death in (die_before, die_after):
        monkeypatch.setattr(rollups, "add", death)
        with pytest.raises(KeyboardInterrupt):
            reads.roll_up()
        assert (_total(), UsageDue.objects.count()) == (0, 1)
    monkeypatch.setattr(rollups, "add", add)
    reads.roll_up()

    assert (_total(), UsageDue.objects.count()) == (6, 0)


def test_many_clocks_at_once_count_each_segment_once(now):
    """The duty's lock keeps clocks apart; without it the rows still do."""
    for number in range(120):
        segment(now - timedelta(hours=number % 5), key_id=KEY, agent_id=AGENT, count=3)
    barrier = threading.Barrier(4)

    def work() -> None:
        try:
            barrier.wait(10)
            while UsageDue.objects.exists():
                reads.roll_up()
        finally:
            connections.close_all()

    clocks = [threading.Thread(target=work) for _ in range(4)]
    for clock in clocks:
        clock.start()
    for clock in clocks:
        clock.join(60)

    assert _total() == 360


def test_sums_are_added_in_a_transaction_only(now):
    with pytest.raises(rollups.NotInTransaction):
        rollups.add([])


def test_very_many_hosts_of_one_hour_share_one_sum(now):
    hour = rollups.hour_of(now)
    place = rollups.Place(KEY, hour, AGENT, None, "", "reported")
    for start in (0, 150, 300):
        with transaction.atomic():
            rollups.add(
                rollups.Tally(
                    rollups.Place(KEY, hour, AGENT, None, f"h{n}.example.com", "reported"), 1, now
                )
                for n in range(start, start + 150)
            )

    assert place.order < rollups.Place(KEY, hour, AGENT, None, "a", "reported").order
    assert UsageHour.objects.count() == rollups.HOSTS_MOST + 1
    assert UsageHour.objects.get(host=rollups.OTHER_HOSTS).count == 450 - rollups.HOSTS_MOST
    assert _total() == 450


def test_two_that_add_to_the_same_sums_in_turn_never_wait_in_a_ring(now):
    hour = rollups.hour_of(now)
    barrier = threading.Barrier(4)
    faults: list[Exception] = []

    def work(names: list[int]) -> None:
        try:
            barrier.wait(10)
            for _ in range(20):
                with transaction.atomic():
                    rollups.add(
                        rollups.Tally(
                            rollups.Place(KEY, hour, AGENT, None, f"h{n}", "reported"), 1, now
                        )
                        for n in names
                    )
        except Exception as error:  # noqa: BLE001
            faults.append(error)
        finally:
            connections.close_all()

    orders = [list(range(50)), list(range(49, -1, -1))] * 2
    threads = [threading.Thread(target=work, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert faults == []
    assert set(UsageHour.objects.values_list("count", flat=True)) == {80}


def test_the_duty_opens_only_the_days_of_a_segment(now):
    segment(now, key_id=KEY, agent_id=AGENT, count=3)
    found = ReadSegment.objects.values_list("process", "first", "last", "first_at", "last_at").get()

    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN " + reads._READS, found)
        plan = "\n".join(row[0] for row in cursor.fetchall())

    assert plan.count("Scan") - plan.count("Bitmap Index Scan") == 1, plan
