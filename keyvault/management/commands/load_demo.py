"""Load the sample organisation into a demo. `./kv up --demo` calls it; it refuses anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from keyvault.launcher import demo_organisation


class Command(BaseCommand):
    """Make the people, teams, environments, Connections and agents of the demo, once."""

    help = "Load the sample organisation; only into a demo that nobody has set up."
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        """Load it. Raises CommandError on anything but an empty demo."""
        try:
            demo_organisation.load(Path(settings.DATA_DIR), now=timezone.now())
        except demo_organisation.NotADemo as refusal:
            raise CommandError(str(refusal)) from None
        self.stdout.write(json.dumps({"say": "sample organisation loaded"}))
