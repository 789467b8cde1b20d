"""Print the proof of one read: a file that the stand-alone verifier checks far from here."""

from __future__ import annotations

import json
import sys
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from keyvault.audit import checkpoints
from keyvault.audit.merkle import InvalidProof
from keyvault.audit.reads import proofs
from keyvault.management.commands.audit_verify import OPERATOR


class Command(BaseCommand):
    """Find a read by its gateway process and its number; asking is recorded."""

    help = "Print the proof of one read of a key, for: keyvault verify FILE --trust KEY"
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the process and the number of the read in it."""
        parser.add_argument("process", type=UUID)
        parser.add_argument("number", type=int)

    def handle(self, *, process: UUID, number: int, **options: Any) -> None:
        """Print it. Exits 1 when the rows were changed, 2 when there is no proof to be had."""
        try:
            proof = proofs.give(process, number, actor=OPERATOR, now=timezone.now())
        except InvalidProof as error:
            self.stderr.write(f"ALTERED  {error}")
            sys.exit(1)
        except (LookupError, checkpoints.NoSigner) as error:
            self.stderr.write(f"There is no proof: {error}.")
            sys.exit(2)
        self.stdout.write(json.dumps(proof, ensure_ascii=False))
