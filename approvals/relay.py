"""Carry due jobs to the workers, and do them here when nobody else does.

Rows are the truth; a message only rings the bell. Publishing happens in this
process alone, never inside a request, because a hung queue server blocks its
caller for many seconds. Two relays at once are harmless, and so is none for
a while: claims decide who runs a job.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass, field
from datetime import timedelta

from django.db import connection, connections
from django.utils import timezone

from approvals import queue
from approvals.queue.rows import mark_rung
from approvals.tasks import name, run_job

log = logging.getLogger(__name__)

RING_AGAIN = timedelta(seconds=10)
OVERDUE = timedelta(seconds=15)
PUBLISH_S = 2.0
HANDS = 4

Publish = Callable[[int], None]


class QueueServerSilent(Exception):
    """The queue server refused or did not take a message in time."""


def publish(job_id: int) -> None:
    """Send one message; it carries the number only and dies of age, not of a retry."""
    run_job.apply_async(args=[job_id], retry=False, ignore_result=True, expires=60)


@dataclass(slots=True)
class Relay:
    """The relay's memory between two ticks: its hands, and a publisher that may hang."""

    publish: Publish = publish
    hands: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(HANDS, thread_name_prefix="relay")
    )
    bell: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="bell")
    )
    ringing: Future[None] | None = None
    running: dict[int, Future[None]] = field(default_factory=dict)

    def tick(self) -> int:
        """Ring for what is due, do what is overdue; return how many jobs were touched.

        Never waits for the queue server longer than two seconds, and not at
        all while an earlier publication still hangs.
        """
        rung = queue.due(ring_again=RING_AGAIN)
        overdue = set(queue.overdue(by=OVERDUE))
        try:
            self._ring(rung)
        except QueueServerSilent as silence:
            log.warning("the queue server does not take messages: %s", silence)
            overdue.update(rung)
        self._do(sorted(overdue))
        return len(overdue.union(rung))

    def wait(self, seconds: float) -> None:
        """Sleep until a job is promised anywhere, at most this long."""
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {queue.CHANNEL}")
        raw = connection.connection
        for _ in raw.notifies(timeout=seconds, stop_after=1):
            return

    def close(self) -> None:
        """Let running jobs end and give the threads back."""
        self.bell.shutdown(wait=False, cancel_futures=True)
        self.hands.shutdown(wait=True, cancel_futures=True)

    def _ring(self, job_ids: Sequence[int]) -> None:
        """Publish in a thread of its own, because a hung server cannot be interrupted."""
        if not job_ids:
            return
        if self.ringing is not None and not self.ringing.done():
            raise QueueServerSilent("an earlier message still hangs")
        self.ringing = self.bell.submit(self._publish_all, list(job_ids))
        try:
            self.ringing.result(timeout=PUBLISH_S)
        except TooSlow:
            raise QueueServerSilent("no answer in time") from None
        except Exception as error:
            raise QueueServerSilent(type(error).__name__) from error
        mark_rung(job_ids)

    def _publish_all(self, job_ids: Sequence[int]) -> None:
        for job_id in job_ids:
            self.publish(job_id)

    def _do(self, job_ids: Sequence[int]) -> None:
        """Run jobs in the relay's own hands; what does not fit waits for the next tick."""
        self.running = {job: done for job, done in self.running.items() if not done.done()}
        free = HANDS - len(self.running)
        waiting = [job_id for job_id in job_ids if job_id not in self.running]
        for job_id in waiting[:free]:
            self.running[job_id] = self.hands.submit(_run, job_id)


def _run(job_id: int) -> None:
    try:
        queue.run(job_id, worker=f"relay:{name()}"[:120], now=timezone.now())
    except Exception:
        log.exception("the relay could not run job %s", job_id)
    finally:
        connections.close_all()
