"""Hold a connection to the deadline of its call, whatever the other end does."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def cut_after(seconds: float, fileno: int) -> Iterator[None]:
    """Shut the socket `fileno` down after `seconds`, so that every wait on it ends.

    A timeout on each read is not enough: a server that sends one byte now and
    then would never meet it, and one that hangs obeys no timeout of its own.
    """
    with socket.socket(fileno=os.dup(fileno)) as handle:

        def cut() -> None:
            with suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
