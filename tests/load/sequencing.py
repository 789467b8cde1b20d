"""The sequencer in a process of its own, as the clock runs it."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

from django.db import connections

from keyvault.audit import sequencer

EVERY_S = 0.05  # The duty's own cadence, in keyvault.duties.
_FORK = multiprocessing.get_context("fork")


@contextmanager
def sequencer_beside() -> Iterator[Callable[[], float]]:
    """Sequence while the block runs; afterwards the call returns its share of one core."""
    connections.close_all()
    done, (reader, answer) = _FORK.Event(), _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_sequence, args=(done, answer), daemon=True)
    process.start()
    answer.close()
    try:
        yield reader.recv
    finally:
        done.set()
        process.join()


def _sequence(done: Event, answer: Connection) -> None:
    began, used = time.perf_counter(), time.process_time()
    while not done.wait(EVERY_S):
        sequencer.run_once()
    answer.send((time.process_time() - used) / (time.perf_counter() - began))
    connections.close_all()
