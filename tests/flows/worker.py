"""One worker process that does one job and ends: `python -m tests.flows.worker JOB_ID`.

It is started with the environment of an installation, so that it reads keys,
settings and the database as a Celery worker does. `KV_CRASH_AT` names the point
at which it kills itself with SIGKILL, `KV_PAUSE_AT` the one at which it stops
until somebody sends SIGCONT.
"""

from __future__ import annotations

import os
import signal
import sys

import django


def pause_at(wanted: str) -> None:
    """Make every claim stop the process when it reaches a point."""
    from approvals.queue.claims import Claim

    go_on = Claim.reached

    def reached(claim: Claim, point: str) -> None:
        if point == wanted:
            os.kill(os.getpid(), signal.SIGSTOP)
        go_on(claim, point)

    Claim.reached = reached


if __name__ == "__main__":
    django.setup()
    from approvals import tasks

    pause_at(os.environ.get("KV_PAUSE_AT", ""))
    tasks.run_job(int(sys.argv[1]))
