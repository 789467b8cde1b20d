"""Refusals that are counted while earlier ones are written down."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import connection, connections
from django.db.models import Sum
from django.utils import timezone

from approvals.ports import Actor
from keyvault.audit import denials
from keyvault.audit.models import Denial, Event

pytestmark = pytest.mark.django_db(transaction=True)

BOT = Actor("agent", "7", "Bot")


def _count() -> None:
    denials.count("key", actor=BOT, example="/keys/x/", now=timezone.now())


def _in_thread(act) -> threading.Thread:
    def run():
        try:
            act()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def _accounted_for() -> int:
    written = Event.objects.filter(event="access.refused").values_list("fields", flat=True)
    waiting = Denial.objects.aggregate(sum=Sum("count"))["sum"] or 0
    return waiting + sum(fields["count"] for fields in written)


def _await_somebody_waiting() -> None:
    """Wait until a statement of another connection waits for a lock."""
    until = time.monotonic() + 20
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
    with connection.cursor() as cursor:
        while time.monotonic() < until:
            cursor.execute(waiting, [connection.settings_dict["NAME"]])
            if cursor.fetchone():
                return
            time.sleep(0.02)
    raise AssertionError("nobody waits for the flush")


def test_r54_a_refusal_that_meets_the_flush_is_counted(monkeypatch):
    """The row is locked and its count is read when the second refusal comes."""
    _count()
    read, go_on = threading.Event(), threading.Event()
    write = denials._write

    def slow(row, now):
        read.set()
        assert go_on.wait(30)
        write(row, now)

    monkeypatch.setattr(denials, "_write", slow)
    flushing = _in_thread(lambda: denials.flush(timezone.now(), is_forced=True))
    assert read.wait(30)
    counting = _in_thread(_count)
    _await_somebody_waiting()
    go_on.set()
    flushing.join(30)
    counting.join(30)

    assert _accounted_for() == 2
    assert Denial.objects.get().count == 1


def test_r54_no_refusal_is_lost_or_doubled_while_others_flush():
    each, writers = 60, 4
    barrier, is_over = threading.Barrier(writers + 1), threading.Event()

    def refuse():
        barrier.wait(30)
        for _ in range(each):
            _count()

    def flush():
        barrier.wait(30)
        while not is_over.is_set():
            denials.flush(timezone.now(), is_forced=True)

    counting = [_in_thread(refuse) for _ in range(writers)]
    flushing = _in_thread(flush)
    for thread in counting:
        thread.join(60)
    is_over.set()
    flushing.join(60)

    assert _accounted_for() == each * writers
