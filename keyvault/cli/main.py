"""The `keyvault` command: finds the subcommand, loads only that one, says errors in a sentence.

Standard library only at import, so that the command answers at once. The exit
codes stand in `codes.py`; `run`, `test` and `manage` pass on the code of what
they run.
"""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from keyvault.cli.codes import Exit
from keyvault.launcher.sentences import Stop


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: the module whose `run(argv)` does it, and one line of help."""

    module: str
    help: str


COMMANDS = {
    "up": Command("keyvault.launcher.up", "start everything here and print the address"),
    "test": Command("keyvault.cli.suite", "run the test suite on embedded servers"),
    "check": Command("keyvault.cli.checks", "run every linter and type check"),
    "bench": Command("keyvault.cli.bench", "run the benchmarks and print a table"),
    "login": Command("keyvault.cli.login", "sign in as a person, through the browser"),
    "logout": Command("keyvault.cli.logout", "end the token that login has left here"),
    "get": Command("keyvault.cli.get", "print a key's value, on a terminal only with --show"),
    "run": Command("keyvault.cli.run", "run a command with keys in its environment, masked"),
    "template": Command("keyvault.cli.template", "fill values into a file, anew when they move"),
    "request": Command("keyvault.cli.request", "create, list, show or withdraw requests"),
    "rotate": Command("keyvault.cli.rotate", "move a key to a new version and follow it"),
    "import": Command("keyvault.cli.import_keys", "take existing keys in, one request per owner"),
    "plan": Command("keyvault.cli.plan", "show what a file that declares keys changes"),
    "apply": Command("keyvault.cli.apply", "make the changes that such a file declares"),
    "agents": Command("keyvault.cli.agents", "list the agents that you may see"),
    "demo": Command("keyvault.cli.demo", "demo code NAME: a current code; demo list: the people"),
    "verify": Command("keyvault.cli.verify", "check a receipt or an audit export, offline"),
    "audit": Command("keyvault.cli.audit", "verify, export or search the ledger"),
    "keys": Command("keyvault.cli.keys", "print the public keys that verifiers pin"),
    "recover-admin": Command(
        "keyvault.cli.recover_admin", "reset an administrator's second factor, after 24 hours"
    ),
    "doctor": Command("keyvault.cli.doctor", "say what is wrong, with a server or a client here"),
    "manage": Command("keyvault.cli.manage", "run a Django command in this installation"),
    "completion": Command("keyvault.cli.completion", "print completion for bash, zsh or fish"),
    "lock": Command("keyvault.cli.lock", "resolve the dependencies anew into requirements/"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except Stop as stop:
        print(f"keyvault: {stop}", file=sys.stderr)
        return int(stop.code)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader has gone away (`| head`); that is its right.
        sys.stderr.close()
        return 1
    except OSError as error:
        print(f"keyvault: {_sentence(error)}", file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in {"-h", "--help", "help"}:
        print(_usage())
        return 0
    if name in {"-V", "--version"}:
        from keyvault.launcher import installation  # noqa: PLC0415 - only here

        print(f"keyvault {installation.version()}")
        return 0
    if name not in COMMANDS:
        raise Stop(
            f"there is no command {name!r}. Commands: {', '.join(COMMANDS)}.", code=Exit.USAGE
        )
    code: int = importlib.import_module(COMMANDS[name].module).run(rest)
    return code


def _usage() -> str:
    lines = [f"  {name:<14}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: keyvault COMMAND [options]", "", *lines])


def _sentence(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    mend = {
        errno.ENOSPC: " Free some space, or choose another place with --data.",
        errno.EACCES: " Run as the owner of that path, or choose another with --data.",
        errno.EROFS: " Choose a writable place with --data.",
    }.get(error.errno or 0, "")
    return f"{error.strerror or error}{where}.{mend}"
