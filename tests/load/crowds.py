"""Many writers at once, in processes of their own, and how long each write took.

Threads of one process would wait for each other at the interpreter, and the
measure would be of that. Writers in several processes, each with a few threads,
are what an installation has: consoles and workers.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from django.db import connections

WARM_UP = 6  # Writes of each writer that are not counted: imports, plans, connections.
_PATIENCE_S = 120
_FORK = multiprocessing.get_context("fork")

# Commits one event and returns how long its insert took, in seconds.
Write = Callable[[int], float]
# Opens what one writer needs, in the writer's own thread.
Writer = Callable[[], AbstractContextManager[Write]]


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a crowd. Without a `rate` it writes as fast as it can.

    `rate` is in events a second over all writers, which take turns.
    """

    processes: int
    threads: int
    events: int
    rate: float | None = None

    @property
    def writers(self) -> int:
        """Return how many write at once."""
        return self.processes * self.threads


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each insert, and of each whole transaction; one entry for each event.

    A transaction at a `rate` is timed from the moment it was due, so that a
    writer who is kept waiting does not hide the wait of the events behind it.
    """

    inserts: list[float]
    wholes: list[float]
    began: float
    ended: float

    @property
    def rate(self) -> float:
        """Return committed events a second."""
        return len(self.wholes) / (self.ended - self.began)


def run(writer: Writer, load: Load) -> Timing:
    """Let all writers begin at once; return what they measured. Raises EOFError if one died."""
    # A connection must not be shared with the children.
    connections.close_all()
    start = _FORK.Barrier(load.writers)
    children = [_child(writer, load, number, start) for number in range(load.processes)]
    found = [timing for _, reader in children for timing in reader.recv()]
    for process, _ in children:
        process.join()
    return _joined(found)


def _child(
    writer: Writer, load: Load, number: int, start: Barrier
) -> tuple[multiprocessing.context.ForkProcess, Connection]:
    reader, answer = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_work, args=(writer, load, number, start, answer), daemon=True)
    process.start()
    # The parent's copy would keep it waiting for a child that has died.
    answer.close()
    return process, reader


def _work(writer: Writer, load: Load, process: int, start: Barrier, answer: Connection) -> None:
    firsts = range(process * load.threads, (process + 1) * load.threads)
    with ThreadPoolExecutor(load.threads) as pool:
        answer.send(list(pool.map(lambda first: _write(writer, load, first, start), firsts)))


def _write(writer: Writer, load: Load, first: int, start: Barrier) -> Timing:
    inserts, wholes = [], []
    with writer() as write:
        for _ in range(WARM_UP):
            write(first)
        start.wait(_PATIENCE_S)
        began = time.perf_counter()
        for number in range(first, load.events, load.writers):
            due = time.perf_counter() if load.rate is None else began + number / load.rate
            time.sleep(max(0.0, due - time.perf_counter()))
            inserts.append(write(number))
            wholes.append(time.perf_counter() - due)
        return Timing(inserts, wholes, began, time.perf_counter())


def _joined(parts: list[Timing]) -> Timing:
    return Timing(
        [seconds for part in parts for seconds in part.inserts],
        [seconds for part in parts for seconds in part.wholes],
        min(part.began for part in parts),
        max(part.ended for part in parts),
    )
