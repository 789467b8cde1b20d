"""What must happen again and again, and how it is kept apart.

Each duty runs in a thread of its own under its own PostgreSQL advisory lock:
two clocks are harmless, a duty that fails or hangs stops no other, and when a
clock dies its locks fall to the next one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from django.conf import settings
from django.db import DatabaseError, connection
from django.utils import timezone

from approvals import services as approvals
from approvals.relay import Relay
from keyvault.accounts import tidying
from keyvault.agents import tidying as agents
from keyvault.audit import checkpoints, denials, sequencer
from keyvault.audit.reads import days, segments
from keyvault.connections import reconcile, renewals_due, trials
from keyvault.invalidation import services as invalidation
from keyvault.leases import sweep as leases
from keyvault.rotation import news
from keyvault.rotation import triggers as rotations
from keyvault.usage import days as usage_days
from keyvault.usage import loaded
from keyvault.usage import reads as usage_reads
from keyvault.usage import watch as usage_watch

log = logging.getLogger(__name__)

_LOCKS = 0x6B76  # "kv": the first half of each duty's advisory lock.
_STANDBY_S = 2.0
_MOST_S = 60.0
_SAY_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Duty:
    """A thing to do every `every_s` seconds; `number` makes its lock and never changes.

    `wait` sleeps at most the given seconds and may return early when there is
    news; without it the duty sleeps until its time.
    """

    name: str
    number: int
    every_s: float
    run: Callable[[], object]
    wait: Callable[[float], None] | None = None


def all_duties(relay: Relay) -> tuple[Duty, ...]:
    """Return the duties of the clock. The times are what a person or a check may wait for."""
    return (
        Duty("relay", 1, 1.0, relay.tick, relay.wait),
        Duty("sequencer", 2, 0.05, sequencer.run_once),
        Duty("checkpoints", 3, 1.0, lambda: checkpoints.run_once(timezone.now())),
        Duty("lapse", 4, 15.0, lambda: approvals.expire(now=timezone.now())),
        Duty("reconcile", 5, 60.0, lambda: reconcile.run(now=timezone.now())),
        Duty("refusals", 6, 15.0, lambda: denials.flush(timezone.now())),
        Duty("tidy", 7, 600.0, _tidy),
        Duty("right changes", 8, 600.0, lambda: invalidation.forget(now=timezone.now())),
        Duty("reads", 9, 1.0, lambda: segments.record_due(timezone.now())),
        Duty("days of reads", 19, 600.0, lambda: days.keep(timezone.now())),
        Duty("rotations", 11, 5.0, lambda: rotations.run(timezone.now())),
        Duty("admin credentials", 23, 60.0, lambda: renewals_due.run(timezone.now())),
        Duty("test runs", 27, 60.0, lambda: trials.look_after(timezone.now())),
        Duty("leases", 24, 1.0, lambda: leases.run(timezone.now())),
        Duty("awaited proofs", 25, 1.0, news.hasten),
        Duty("usage", 10, 5.0, usage_reads.roll_up),
        Duty("misuse", 20, 60.0, lambda: usage_watch.run(timezone.now())),
        Duty("days of usage", 21, 600.0, _keep_days_of_usage),
        Duty("loaded versions", 22, 3600.0, lambda: loaded.forget(now=timezone.now())),
    )


def _tidy() -> None:
    now = timezone.now()
    tidying.tidy(now=now)
    agents.tidy(now=now)
    leases.forget(now=now)


def _keep_days_of_usage() -> int:
    return usage_days.keep(timezone.now(), events_days=settings.USAGE_RETENTION_DAYS)


def keep(duty: Duty, stop: threading.Event) -> None:
    """Do a duty until `stop`; whatever it raises is logged and tried again with backoff."""
    complaints = _Complaints(duty.name)
    failures = 0
    with closing(connection):
        while not stop.is_set():
            try:
                with _lock(duty) as mine:
                    while mine and not stop.is_set():
                        duty.run()
                        failures = complaints.over()
                        _rest(duty, stop)
                stop.wait(_STANDBY_S)
            except Exception as error:  # noqa: BLE001 - the clock outlives every fault of a duty
                failures += 1
                complaints.say(error)
                connection.close()
                stop.wait(min(duty.every_s * 2 ** min(failures, 10), _MOST_S))


def _rest(duty: Duty, stop: threading.Event) -> None:
    if duty.wait is not None:
        duty.wait(duty.every_s)
    else:
        stop.wait(duty.every_s)


@contextmanager
def _lock(duty: Duty) -> Iterator[bool]:
    """Hold the duty's lock for as long as this connection lives; say whether it was free."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [_LOCKS, duty.number])
        mine = bool(cursor.fetchone()[0])
    try:
        yield mine
    finally:
        if mine:
            _unlock(duty)


def _unlock(duty: Duty) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_LOCKS, duty.number])
    except DatabaseError:
        # The connection is gone, and the lock went with it.
        connection.close()


class _Complaints:
    """Log a fault once and then once a minute, so that an outage does not fill the disk."""

    def __init__(self, name: str) -> None:
        self._name, self._said_at, self._count = name, 0.0, 0

    def say(self, error: Exception) -> None:
        self._count += 1
        if self._count == 1 or time.monotonic() - self._said_at >= _SAY_AGAIN_S:
            self._said_at = time.monotonic()
            log.error("%s failed (time %d): %r", self._name, self._count, error, exc_info=error)

    def over(self) -> int:
        if self._count:
            log.info("%s works again after %d failures", self._name, self._count)
        self._count = 0
        return 0
