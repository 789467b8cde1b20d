"""Verify the ledger of this installation: progress while it runs, exit code 1 when altered."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from approvals.ports import Actor
from keyvault.audit import checkpoints, verifications, verify

OPERATOR = Actor("system", "cli", "Operator on the host")
_BAR = 30


class Command(BaseCommand):
    """Hash every event again and compare every signed root, inside and outside the database."""

    help = "Verify the whole ledger against itself and its exported checkpoints."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take `--json` for machines."""
        parser.add_argument("--json", action="store_true", dest="is_json")

    def handle(self, *, is_json: bool, **options: Any) -> None:
        """Run it and say the result. Exits 1 when altered, 2 when it cannot run."""
        try:
            run, result = verifications.perform(
                actor=OPERATOR,
                now=timezone.now(),
                report=self._progress if sys.stderr.isatty() else None,
            )
        except checkpoints.NoSigner as error:
            self.stderr.write(f"The ledger cannot be verified: {error}")
            sys.exit(2)
        if sys.stderr.isatty():
            self.stderr.write("")
        self._say(run.state, result, is_json=is_json)
        if not result.is_intact:
            sys.exit(1)

    def _say(self, state: str, result: verify.Result, *, is_json: bool) -> None:
        if is_json:
            problems = [problem.to_json() for problem in result.problems]
            found = {"state": state, "events": result.size, "checkpoints": result.checkpoints}
            found |= {"reads": result.reads, "events_per_s": result.events_per_s}
            self.stdout.write(json.dumps({**found, "problems": problems}))
            return
        for problem in result.problems:
            self.stdout.write(f"ALTERED  {problem.sentence}")
        word = "INTACT " if result.is_intact else "ALTERED"
        self.stdout.write(
            f"{word}  {result.size} events, {result.checkpoints} checkpoints,"
            f" {result.reads} reads,"
            f" {result.events_per_s} events/s"
        )

    def _progress(self, progress: verify.Progress) -> None:
        done = round(_BAR * progress.checked / max(progress.total, 1))
        bar = "#" * done + "." * (_BAR - done)
        line = f"\r[{bar}] {progress.checked}/{progress.total}  {progress.events_per_s} events/s"
        self.stderr.write(line, ending="")
        self.stderr.flush()
