"""Print a one-time token for `/setup/`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from keyvault.accounts import setup


class Command(BaseCommand):
    """Make a set-up token, good for 30 minutes; earlier ones stop working."""

    help = "Print a one-time token for the first administrator's /setup/ page."

    def handle(self, **options: Any) -> None:
        """Print the token. Raises CommandError on an installation that is set up."""
        try:
            self.stdout.write(setup.make_token(now=timezone.now()))
        except setup.AlreadySetUp as refusal:
            raise CommandError(str(refusal)) from None
