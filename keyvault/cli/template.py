"""`keyvault template FILE`: a file with values filled in, written anew when a version moves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keyvault.cli import connecting, get, home, templates
from keyvault.cli.codes import Exit
from keyvault.launcher.arguments import Arguments
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from argparse import Namespace

    from keyvault.client import Client, Value


def run(argv: Sequence[str]) -> int:
    """Render once, or with --follow for as long as it runs. Raises Stop."""
    given = _parse(argv)
    text = sys.stdin.read() if given.file == "-" else Path(given.file).read_text(encoding="utf-8")
    names = templates.names(text)
    with connecting.connected() as caller:
        for name in names:
            get.refuse_people(caller, name)
        values = {name: caller.client.get(name) for name in names}
        _deliver(text, values, given)
        if given.follow and names:
            _follow(caller.client, text, values, given)
    return Exit.DONE


def _parse(argv: Sequence[str]) -> Namespace:
    parser = Arguments(
        prog="keyvault template",
        description="Fill ${kv:NAME} and ${kv:NAME.FIELD} in a file; - reads standard input.",
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--out", type=Path, metavar="PATH", help="write here, mode 0600, at once")
    parser.add_argument("--show", action="store_true", help="print to the terminal")
    parser.add_argument("--follow", action="store_true", help="go on, and write --out anew")
    parser.add_argument("--pid-file", type=Path, help="with --follow: send SIGHUP to this process")
    given = parser.parse_args(argv)
    if (given.follow or given.pid_file) and not given.out:
        parser.error("--follow and --pid-file go with --out")
    if not given.out and sys.stdout.isatty() and not given.show:
        parser.error("a terminal would show the values; use --out PATH, a pipe, or --show")
    return given


def _deliver(text: str, values: Mapping[str, Value], given: Namespace) -> None:
    rendered = templates.render(text, lambda name, field: get.revealed(values[name], field))
    if given.out:
        home.write(given.out, rendered.encode())
    else:
        sys.stdout.write(rendered)
        sys.stdout.flush()


def _follow(client: Client, text: str, values: dict[str, Value], given: Namespace) -> None:
    """Write the file anew whenever a version moves. Raises what the client raises."""
    # A supervisor ends us by SIGTERM, and that is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.DONE))
    for value in client.watch(*values):
        if value.version != values[value.key].version:
            values[value.key] = value
            _deliver(text, values, given)
            print(
                f"keyvault: {given.out} holds version {value.version} of {value.key}",
                file=sys.stderr,
            )
            _nudge(given.pid_file)


def _nudge(pid_file: Path | None) -> None:
    """Tell a process that its file is new. Raises Stop."""
    if pid_file is None:
        return
    try:
        os.kill(int(pid_file.read_text(encoding="ascii")), signal.SIGHUP)
    except (ValueError, OSError) as error:
        raise Stop(f"{pid_file} names no process that can be told: {error}.") from None
