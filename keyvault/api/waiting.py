"""Wait until a request changes, without keeping a connection and without taking every thread.

A waiting call keeps one of the console's threads, so at most `PLACES` of them
wait in a process, one for each caller; whoever finds no place is answered at
once and is told when to come again. The database connection is closed before
each sleep: the caller's address answers from memory only that nothing was said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from django.db import connection

from keyvault.rooms import Room

T = TypeVar("T")
PLACES = 4
STEP_S = 1.0
AGAIN_S = 5

room = Room(PLACES)


def until(read: Callable[[], T], is_news: Callable[[T], bool], *, whose: str, wait_s: int) -> T:
    """Read again and again until there is news or the time is over; return what was read last.

    `read` judges the caller's right each time, and raises when it is gone.
    """
    found = read()
    if wait_s <= 0 or is_news(found):
        return found
    end = time.monotonic() + wait_s
    with room.place(whose) as has_place:
        while has_place and not is_news(found) and (left := end - time.monotonic()) > 0:
            connection.close()
            time.sleep(min(STEP_S, left))
            found = read()
    return found
