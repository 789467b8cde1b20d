"""`keyvault run --key NAME=ENVVAR -- COMMAND`: a program with its keys in its environment only.

The values are masked in what it prints. When a version moves, the command is
restarted, signalled, or left alone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keyvault.cli import connecting, get, keyspecs
from keyvault.cli.codes import Exit
from keyvault.cli.keyspecs import KeySpec
from keyvault.cli.lending import Lending, lending
from keyvault.cli.wrapped import Wrapped
from keyvault.launcher.arguments import Arguments
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from argparse import Namespace

    from keyvault.cli.connecting import Caller
    from keyvault.client import Client, Value

IGNORE, RESTART, SIGNAL = "ignore", "restart", "signal"
GRACE_S = 10.0


@dataclass(slots=True)
class Keys:
    """The keys of one command and the versions that it has."""

    specs: Sequence[KeySpec]
    keep_identity: bool
    values: dict[str, Value] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return each name once."""
        return list(dict.fromkeys(spec.name for spec in self.specs))

    @property
    def read(self) -> list[str]:
        """Return the names of those that have versions, which may move; a lease has none."""
        return [name for name in self.names if self.values[name].version]

    def environment(self) -> dict[str, str]:
        """Return the environment of the command. Raises Stop, values.NoSuchField."""
        return keyspecs.environment(
            os.environ, self.specs, self.values, keep_identity=self.keep_identity
        )

    def secrets(self) -> list[str]:
        """Return every text that must not be printed."""
        return [value.reveal(name) for value in self.values.values() for name in value.fields]


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code. Raises Stop."""
    own, command = _split(argv)
    given = _parse(own)
    number = _signal(given.on_change)
    keys = Keys([KeySpec.parse(text) for text in given.key], given.keep_identity)
    if not keys.specs:
        return Wrapped(command, env=keys.environment(), values=(), grace_s=given.grace).run()
    with _not_started(), connecting.connected() as caller, lending(caller.client) as lent:
        env = _fetched(caller, keys, lent)
        wrapped = Wrapped(command, env=env, values=keys.secrets(), grace_s=given.grace)
        if given.on_change == IGNORE:
            lent.follow(None)
        else:
            lent.follow(lambda value: _moved(keys, value, wrapped, number))
            if keys.read:
                arguments = (caller.client, keys, wrapped, number)
                threading.Thread(target=_follow, args=arguments, daemon=True).start()
        return wrapped.run()


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return our own arguments and the command after `--`. Raises Stop."""
    words = list(argv)
    if {"-h", "--help"} & set(words[: words.index("--")] if "--" in words else words):
        return words, []
    if "--" not in words or not words[words.index("--") + 1 :]:
        message = "run takes a command after --. See: keyvault run --help"
        raise Stop(message, code=Exit.USAGE)
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _parse(argv: Sequence[str]) -> Namespace:
    parser = Arguments(
        prog="keyvault run",
        usage="keyvault run [--key NAME[.FIELD][=ENVVAR]]... [options] -- COMMAND...",
        description="Run a command with keys in its environment, masked in its output.",
    )
    parser.add_argument("--key", action="append", default=[], metavar="NAME[.FIELD][=ENVVAR]")
    parser.add_argument(
        "--on-change",
        default=IGNORE,
        metavar="restart|signal:HUP|ignore",
        help="what to do when a version moves (default: ignore)",
    )
    parser.add_argument(
        "--grace", type=float, default=GRACE_S, metavar="S", help="seconds to end in (default: 10)"
    )
    parser.add_argument(
        "--keep-identity",
        action="store_true",
        help="leave KEYVAULT_CLIENT_SECRET and its like in the environment of the command",
    )
    return parser.parse_args(argv)


def _signal(on_change: str) -> signal.Signals | None:
    """Return the signal that `signal:NAME` names, None for the other choices. Raises Stop."""
    kind, _, name = on_change.partition(":")
    if on_change in {IGNORE, RESTART}:
        return None
    found = signal.Signals.__members__.get(f"SIG{name.upper().removeprefix('SIG')}")
    if kind != SIGNAL or found is None:
        message = f"--on-change takes restart, signal:HUP or ignore, not {on_change!r}."
        raise Stop(message, code=Exit.USAGE)
    return found


@contextmanager
def _not_started() -> Iterator[None]:
    """Give whatever stands in the way of the start one code, which no command's own is."""
    try:
        yield
    except Stop as stop:
        if stop.code in {Exit.USAGE, Exit.NOT_FOUND, Exit.NOT_EXECUTABLE}:
            raise
        raise Stop(str(stop), code=Exit.NOT_STARTED) from None


def _fetched(caller: Caller, keys: Keys, lent: Lending) -> dict[str, str]:
    """Read every key and return the environment. Raises Stop and what the client raises."""
    from keyvault.client.values import NoSuchField  # noqa: PLC0415

    for name in keys.names:
        get.refuse_people(caller, name)
        keys.values[name] = _value(caller.client, name, lent)
    try:
        return keys.environment()
    except NoSuchField as error:
        raise Stop(str(error), code=Exit.USAGE) from None


def _value(client: Client, name: str, lent: Lending) -> Value:
    """Read a key, or take a lease of one that has no value to read. Raises as the client does."""
    from keyvault.client import NotGranted  # noqa: PLC0415

    try:
        return client.get(name)
    except NotGranted as refused:
        try:
            return lent.take(name)
        except NotGranted:
            # It is hidden or missing in both places, and the first said how to ask for it.
            raise refused from None


def _follow(client: Client, keys: Keys, wrapped: Wrapped, number: signal.Signals | None) -> None:
    """Act on every version that moves, until the client is closed; say why if it cannot go on."""
    try:
        with connecting.said():
            for value in client.watch(*keys.read):
                if value.version != keys.values[value.key].version:
                    _moved(keys, value, wrapped, number)
    except Stop as stop:
        print(f"keyvault: {stop} The command goes on with what it has.", file=sys.stderr)


def _moved(keys: Keys, value: Value, wrapped: Wrapped, number: signal.Signals | None) -> None:
    keys.values[value.key] = value
    if number is None:
        wrapped.restart(keys.environment(), keys.secrets())
    else:
        # Its environment cannot change; it may read the new value in another way.
        wrapped.mask(keys.secrets())
        wrapped.send(number)
