"""Search the ledger from the terminal, in the language of the page; the search is recorded."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from keyvault.audit import reading, selectors
from keyvault.management.commands.audit_verify import OPERATOR


class Command(BaseCommand):
    """Print the newest events that match a query, one a line."""

    help = "Search the ledger, for example: actor:alice time:7d"
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the query, `--limit` and `--json`."""
        parser.add_argument("query", nargs="*")
        parser.add_argument("--limit", type=int, default=selectors.PAGE)
        parser.add_argument("--json", action="store_true", dest="is_json")

    def handle(self, *, limit: int, is_json: bool, **options: Any) -> None:
        """Print it. Exits 2 when the query has no meaning."""
        query, page = reading.search(" ".join(options["query"]), actor=OPERATOR, now=timezone.now())
        for problem in query.problems:
            hint = f" Did you mean {problem.nearest}?" if problem.nearest else ""
            self.stderr.write(f"{problem.sentence}{hint}")
        if page is None:
            sys.exit(2)
        for line in page.rows[:limit]:
            self.stdout.write(_json(line) if is_json else _line(line))


def _line(line: selectors.Line) -> str:
    place = f"#{line.seq}" if line.seq else "new"
    at = f"{line.at:%Y-%m-%d %H:%M:%S}"
    # A terminal obeys control characters; a name may hold them.
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for letter in f"{at}  {place:>10}  {line.outcome:<8}{line.event:<26}{line.sentence}"
    )


def _json(line: selectors.Line) -> str:
    return json.dumps(
        {
            "seq": line.seq,
            "at": line.at.isoformat(),
            "event": line.event,
            "outcome": line.outcome,
            "actor": line.actor.label,
            "target": line.subject_label,
            "request": str(line.request_id) if line.request_id else None,
            "fields": dict(line.fields),
        },
        ensure_ascii=False,
    )
