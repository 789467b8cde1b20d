"""Print a new one-time token for `/setup/`; whoever runs this owns the host."""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from keyvault.accounts import setup


class Command(BaseCommand):
    """Print a token that works for 30 minutes; earlier ones stop working."""

    help = "Print a new one-time set-up token."

    def handle(self, *_args: object, **_options: object) -> None:
        """Print the token alone, so that scripts can read it."""
        try:
            self.stdout.write(setup.make_token(now=timezone.now()))
        except setup.AlreadySetUp as error:
            raise CommandError(str(error)) from error
