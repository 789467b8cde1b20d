"""Make two transactions meet: one in a thread of its own, one that is known to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from django.db import connection, connections

PATIENCE_S = 60


class Racer(threading.Thread):
    """Something done on a connection of its own. `error` is what it raised, if anything."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._act = act
        self.start()

    def run(self) -> None:
        """Do it, and keep what it raises."""
        try:
            self._act()
        except BaseException as error:  # noqa: BLE001 - whoever waits for it looks.
            self.error = error
        finally:
            connections.close_all()

    def finish(self) -> None:
        """Wait until it is done, and raise what it raised."""
        self.join(PATIENCE_S)
        assert not self.is_alive(), "it is still under way"
        if self.error is not None:
            raise self.error


def await_somebody_waiting(count: int = 1) -> None:
    """Wait until statements of that many other connections wait for a lock."""
    until = time.monotonic() + PATIENCE_S
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s"
    )
    with connection.cursor() as cursor:
        while time.monotonic() < until:
            # Within a transaction the server would go on telling what it told first.
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(waiting, [connection.settings_dict["NAME"]])
            if cursor.fetchone()[0] >= count:
                return
            time.sleep(0.02)
    raise AssertionError("nobody waits for a lock")
