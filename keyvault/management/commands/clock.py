"""Run the clock: relay, sequencer, checkpoints, lapsing requests, reconciliation."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import closing
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from approvals.relay import Relay
from keyvault import duties

log = logging.getLogger(__name__)
_STOP_S = 10.0


class Command(BaseCommand):
    """Do every duty in a thread of its own until SIGTERM or SIGINT."""

    help = "Run the periodic duties. Two clocks are harmless: one works, the other waits."
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        """Start the duties and wait. Raises CommandError when a thread has died."""
        stop = threading.Event()

        def end(number: int, _frame: FrameType | None) -> None:
            log.info("the clock stops on %s", signal.Signals(number).name)
            stop.set()

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        with closing(Relay()) as relay:
            threads = [
                threading.Thread(target=duties.keep, args=(duty, stop), name=duty.name, daemon=True)
                for duty in duties.all_duties(relay)
            ]
            for thread in threads:
                thread.start()
            log.info("the clock keeps %d duties", len(threads))
            while not stop.wait(1.0):
                dead = [thread.name for thread in threads if not thread.is_alive()]
                if dead:
                    raise CommandError(f"{', '.join(dead)} has died; a new clock must start.")
            for thread in threads:
                thread.join(_STOP_S)
