"""Print the public keys of receipts and ledger; whoever verifies pins them somewhere else."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from approvals import receipts
from keyvault.audit import trust


class Command(BaseCommand):
    """Print both keys with their names, or one of them alone for a script."""

    help = "Print the public keys that `keyvault verify --trust` takes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the name of one key."""
        parser.add_argument("name", nargs="?", choices=("receipts", "ledger"))

    def handle(self, *_args: object, **options: Any) -> None:
        """Print. Raises CommandError while the keys cannot be read."""
        keys = {"receipts": receipts.public_key(), "ledger": trust.public_key()}
        if not all(keys.values()):
            raise CommandError("The signing keys cannot be read. See KEYVAULT_KEYS_DIR.")
        if options["name"]:
            self.stdout.write(keys[options["name"]])
            return
        for name, key in keys.items():
            self.stdout.write(f"{name:<9}{key}")
