"""One worker process that does one job and ends: `python -m tests.flows.worker JOB_ID`.

It is started with the environment of an installation, so that it reads keys,
settings and the database as a Celery worker does. `KV_CRASH_AT` names the point
at which it kills itself with SIGKILL.
"""

from __future__ import annotations

import sys

import django

if __name__ == "__main__":
    django.setup()
    from approvals import tasks

    tasks.run_job(int(sys.argv[1]))
