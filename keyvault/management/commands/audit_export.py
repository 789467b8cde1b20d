"""Export what a query matches, without the page's limit; the export is recorded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from keyvault.audit import checkpoints, export, merkle, reading, sink
from keyvault.management.commands.audit_verify import OPERATOR

_REASONS = (checkpoints.NoSigner, checkpoints.Rewound, sink.SinkUnavailable, merkle.InvalidProof)


class Command(BaseCommand):
    """Write the whole ledger, or what a query matches, as JSONL with proof or as CSV."""

    help = "Export the ledger. Without a query: all of it."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the query, the format and where to write to."""
        parser.add_argument("query", nargs="*", help="for example: action:secret.* time:90d")
        parser.add_argument("--format", choices=[export.JSONL, export.CSV], default=export.JSONL)
        parser.add_argument("--output", type=Path, help="a file; without it, standard output")

    def handle(self, *, output: Path | None, **options: Any) -> None:
        """Write it. Exits 2 when the query has no meaning or nothing can be signed."""
        now = timezone.now()
        query = reading.parse(" ".join(options["query"]) or "time:all", now=now)
        if query.problems:
            self._stop(query.problems[0].sentence)
        try:
            made = export.prepare(
                query, kind=options["format"], actor=OPERATOR, now=now, limit=None
            )
        except _REASONS as error:
            self._stop(str(error))
        if output is None:
            sys.stdout.writelines(export.lines(made))
        else:
            with output.open("w", encoding="utf-8", newline="") as file:
                file.writelines(export.lines(made))
        self.stderr.write(f"{made.count} events, signed by checkpoint {made.checkpoint.number}")

    def _stop(self, sentence: str) -> NoReturn:
        self.stderr.write(f"Nothing was exported: {sentence}")
        sys.exit(2)
