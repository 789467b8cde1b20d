"""Hear early that this process is told to stop.

granian stops to accept, then waits for open requests, and only then says
goodbye to the application. A stream would let it wait until it is killed.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType

_STOPS = (signal.SIGINT, signal.SIGTERM)


def on_stop(end: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
    """Have `end` called on the loop when a signal asks this process to stop.

    Call it in the main thread. The handler that is there goes on being called:
    an event loop hears of signals through a pipe that Python writes to as well.
    """
    for number in _STOPS:
        signal.signal(number, _then(signal.getsignal(number), end, loop))


def _then(
    before: Callable[[int, FrameType | None], object] | int | None,
    end: Callable[[], None],
    loop: asyncio.AbstractEventLoop,
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(end)
        if callable(before):
            before(number, frame)

    return handle
