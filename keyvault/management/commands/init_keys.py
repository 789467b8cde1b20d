"""Make the keys of an installation, once."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from keyvault.launcher import installation
from keyvault.launcher.sentences import Stop


class Command(BaseCommand):
    """Write the key-encryption key and the signing keys into KEYVAULT_KEYS_DIR."""

    help = "Write the keys of this installation once; keys that exist are never replaced."
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        """Make them. Raises CommandError where keys exist or the place cannot be written."""
        if settings.KEYS_DIR.exists() and any(settings.KEYS_DIR.iterdir()):
            raise CommandError(f"{settings.KEYS_DIR} holds keys already; they are never replaced.")
        try:
            installation.make_keys(settings.KEYS_DIR, outside=settings.DATA_DIR)
        except Stop as stop:
            raise CommandError(str(stop)) from None
        self.stdout.write(f"keys written to {settings.KEYS_DIR}; copy them to your escrow now")
