"""Say what is wrong with this installation, and how to mend it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from keyvault import readiness, reconciliation
from keyvault.audit import protection

_LEAST_FREE = 300_000_000


class Command(BaseCommand):
    """Look at servers, keys, disk, ledger and rights; exit 1 when something is wrong."""

    help = "Say what is wrong with this installation, and how to mend it."
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        """Print one sentence for each fault, or that there is none."""
        faults = list(_faults())
        for fault in faults:
            self.stdout.write(f"- {fault}")
        self.stdout.write(f"{len(faults)} faults" if faults else "all is well")
        if faults:
            sys.exit(1)


def _faults() -> Iterator[str]:
    yield from _services()
    yield from _files()


def _services() -> Iterator[str]:
    found = readiness.look(now=timezone.now())
    if not found.has_database:
        yield "PostgreSQL does not answer: start it, or mend DATABASE_URL."
        return
    if found.is_sealed:
        yield f"The vault is sealed: {found.seal}"
    if not found.has_queue_server:
        yield "The queue server does not answer: work is late, not lost. Start Valkey or Redis."
    if (found.oldest_due_s or 0) > readiness.LATE.total_seconds():
        yield f"A job waits for {found.oldest_due_s:.0f} s: see that a worker and a clock run."
    if (found.unsequenced_s or 0) > readiness.LATE.total_seconds():
        yield f"The ledger's sequencer is {found.unsequenced_s:.0f} s behind: see the clock's log."
    if found.held_jobs:
        yield f"{found.held_jobs} jobs are held: open the system page, mend the cause, resume."
    yield from _ledger()


def _ledger() -> Iterator[str]:
    guard = protection.found()
    if guard is not protection.Protection.ROLE_AND_TRIGGER:
        yield f"The ledger is protected by {guard}: serve with the role kv_app (docs/operations.md)."
    for difference in reconciliation.differences():
        yield difference.sentence


def _files() -> Iterator[str]:
    data, keys = Path(settings.DATA_DIR), Path(settings.KEYS_DIR)
    if keys.is_dir() and stat.S_IMODE(keys.stat().st_mode) & 0o077:
        yield f"Others may enter the keys directory. Run: chmod -R go= {keys}"
    if keys.is_dir() and keys.stat().st_uid != os.geteuid():
        yield f"{keys} belongs to another account; run as its owner."
    if data.is_dir() and shutil.disk_usage(data).free < _LEAST_FREE:
        yield f"The disk of {data} is nearly full; free some space."
