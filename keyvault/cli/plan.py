"""`keyvault plan FILE.toml`: show what `keyvault apply` would change. Changes nothing.

Its exit code tells a job whether what is differs from what is declared.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from keyvault.cli import connecting, planned_words, planning, printing
from keyvault.cli.codes import Exit
from keyvault.launcher.arguments import Arguments


def run(argv: Sequence[str]) -> int:
    """Print the differences; 0 where there is none. Raises Stop."""
    parser = Arguments(
        prog="keyvault plan", description="Show what a file that declares keys changes."
    )
    parser.add_argument("file", type=Path, metavar="FILE.toml")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(argv)
    with connecting.connected() as caller:
        found = planning.of(caller.client, given.file)
    if given.json:
        printing.as_json({"keys": [one.to_json() for one in found.keys], "changes": found.count})
    else:
        planned_words.tell(found, coloured=planned_words.is_coloured())
        if found.count:
            file = shlex.quote(str(given.file))
            print(f"This is a plan; nothing was changed. Then: keyvault apply {file}")
    return Exit.CHANGES if found.count else Exit.DONE
