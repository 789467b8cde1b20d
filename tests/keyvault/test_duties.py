"""The clock: duties that neither stop nor double each other."""

from __future__ import annotations

import threading
import time
from typing import Self

import pytest
from django.db import connection

from approvals.relay import Relay
from keyvault import duties
from keyvault.duties import Duty

pytestmark = pytest.mark.django_db(transaction=True)


class Clock:
    """Runs duties in threads, as the clock does, until the block ends."""

    def __init__(self, *wanted: Duty) -> None:
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(target=duties.keep, args=(duty, self.stop)) for duty in wanted
        ]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()


def eventually(condition, seconds: float = 5) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def failing() -> None:
    raise RuntimeError("poison")


def test_a_failing_duty_stops_no_other_and_is_tried_again(caplog):
    done, tried = [], []

    def broken() -> None:
        tried.append(1)
        failing()

    with Clock(Duty("broken", 901, 0.01, broken), Duty("good", 902, 0.01, lambda: done.append(1))):
        eventually(lambda: len(done) > 20 and len(tried) > 3)

    assert sum("broken failed" in line for line in caplog.messages) == 1


def test_a_hanging_duty_holds_up_no_other():
    release, done = threading.Event(), []

    with Clock(
        Duty("hung", 903, 0.01, lambda: release.wait(20)),
        Duty("good", 904, 0.01, lambda: done.append(1)),
    ):
        eventually(lambda: len(done) > 20)
        release.set()


def test_r58_of_two_clocks_one_works_and_the_other_takes_over():
    first, second = [], []
    mine = Duty("shared", 905, 0.01, lambda: first.append(1))
    theirs = Duty("shared", 905, 0.01, lambda: second.append(1))

    with Clock(mine) as one:
        eventually(lambda: first)
        with Clock(theirs):
            time.sleep(0.2)
            assert not second
            one.stop.set()
            eventually(lambda: second)


def test_a_lost_connection_is_made_again():
    def pid() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return int(cursor.fetchone()[0])

    seen: list[int] = []
    with Clock(Duty("talker", 906, 0.01, lambda: seen.append(pid()))):
        eventually(lambda: seen)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [seen[0]])
        eventually(lambda: seen[-1] != seen[0], seconds=10)


def test_recovery_is_said(caplog):
    caplog.set_level("INFO")
    failures = iter([True, True, False])

    def healing() -> None:
        if next(failures, False):
            failing()

    with Clock(Duty("healing", 907, 0.01, healing)):
        eventually(lambda: any("works again after 2" in line for line in caplog.messages))


def test_every_duty_has_a_lock_of_its_own():
    relay = Relay()
    numbers = [duty.number for duty in duties.all_duties(relay)]
    relay.close()

    assert len(set(numbers)) == len(numbers)
