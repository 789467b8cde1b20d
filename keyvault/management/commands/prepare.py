"""Bring an installation up to date before it serves: tables, static files, set-up token.

`./kv up` runs it as the owner of the tables. What it has to say goes to
standard output as one JSON object a line.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from keyvault.accounts import services, setup
from keyvault.actions import defaults
from keyvault.audit.reads import days


class Command(BaseCommand):
    """Apply pending migrations, gather static files, make a set-up token when one is due."""

    help = "Bring the database and the static files up to date; say it as JSON lines."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take `--token`: make a set-up token if nobody has set this installation up."""
        parser.add_argument("--token", action="store_true")

    def handle(self, *, token: bool, **options: Any) -> None:
        """Do it; a second run finds nothing to do."""
        pending = self._migrate()
        if pending:
            self._tell(say=f"{pending} migrations applied")
        days.set_retention(settings.READ_RETENTION_DAYS)
        services.seed_roles(now=timezone.now())
        defaults.seed(now=timezone.now())
        if self._gather():
            self._tell(say="static files gathered")
        is_open = setup.is_open()
        self._tell(empty=is_open)
        if token and is_open:
            self._tell(token=setup.make_token(now=timezone.now()))

    def _tell(self, **facts: object) -> None:
        self.stdout.write(json.dumps(facts))

    def _migrate(self) -> int:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if plan:
            call_command("migrate", verbosity=0, interactive=False)
        return len(plan)

    def _gather(self) -> bool:
        stamp = Path(settings.STATIC_ROOT) / ".gathered"
        wanted = _digest([Path(directory) for directory in settings.STATICFILES_DIRS])
        if stamp.exists() and stamp.read_text(encoding="ascii") == wanted:
            return False
        call_command("collectstatic", verbosity=0, interactive=False, clear=True)
        stamp.write_text(wanted, encoding="ascii")
        return True


def _digest(directories: list[Path]) -> str:
    """Return a digest of names, sizes and times: cheaper than the contents, and enough."""
    lines = [
        f"{path}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}"
        for directory in directories
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
