"""Refusals that are counted while earlier ones are written down."""

from __future__ import annotations

import threading

import pytest
from django.db.models import Sum
from django.utils import timezone

from approvals.ports import Actor
from keyvault.audit import denials
from keyvault.audit.models import Denial, Event
from tests import races

pytestmark = pytest.mark.django_db(transaction=True)

BOT = Actor("agent", "7", "Bot")


def _count() -> None:
    denials.count("key", actor=BOT, example="/keys/x/", now=timezone.now())


def _accounted_for() -> int:
    written = Event.objects.filter(event="access.refused").values_list("fields", flat=True)
    waiting = Denial.objects.aggregate(sum=Sum("count"))["sum"] or 0
    return waiting + sum(fields["count"] for fields in written)


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
    flushing = races.Racer(lambda: denials.flush(timezone.now(), is_forced=True))
    assert read.wait(30)
    counting = races.Racer(_count)
    races.await_somebody_waiting()
    go_on.set()
    flushing.finish()
    counting.finish()

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

    counting = [races.Racer(refuse) for _ in range(writers)]
    flushing = races.Racer(flush)
    for racer in counting:
        racer.finish()
    is_over.set()
    flushing.finish()

    assert _accounted_for() == each * writers
