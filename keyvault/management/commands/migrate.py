"""Django's `migrate`, as the role that owns the tables."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.management.commands import migrate
from django.db import connections

from keyvault.audit.reads import days
from keyvault.environment import database

OWNER_URL = "KEYVAULT_MIGRATE_DATABASE_URL"


class Command(migrate.Command):
    """Migrate by KEYVAULT_MIGRATE_DATABASE_URL where it is set; the serving role owns nothing."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Change the address of the database for this process, then migrate."""
        if os.environ.get(OWNER_URL) or os.environ.get(f"{OWNER_URL}_FILE"):
            connection = connections[options["database"]]
            connection.close()
            # The name stays: the test runner migrates a database of another name.
            owner = {key: value for key, value in database(OWNER_URL).items() if key != "NAME"}
            connection.settings_dict.update(owner)
        super().handle(*args, **options)
        if not any(options.get(name) for name in ("plan", "check_unapplied", "app_label")):
            days.set_retention(settings.READ_RETENTION_DAYS)
