"""Write variables so that the reader gets exactly the value, or refuse.

Readers of such files differ in how they undo quotes: what one takes literally
another unescapes. A value of plain characters is written bare, which all read
alike; any other is quoted for one kind of reader.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping

from keyvault.destinations.base import Misconfigured

_BARE = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")


def render(shown: Mapping[str, str], kind: str) -> str:
    """Return the lines of a file. Raises Misconfigured on a value that `kind` cannot hold."""
    quote = _QUOTES.get(kind)
    if quote is None:
        raise Misconfigured("The format is none of dotenv, shell and plain.")
    return "".join(f"{name}={_written(name, value, quote)}\n" for name, value in shown.items())


def _written(name: str, value: str, quote: Callable[[str, str], str]) -> str:
    if "\0" in value:
        raise Misconfigured(f"The value of {name} holds a NUL byte, which no variable can.")
    return value if _BARE.fullmatch(value) else quote(name, value)


def _dotenv(name: str, value: str) -> str:
    r"""Quote as python-dotenv reads: in single quotes, where \\ and \' are undone."""
    if "${" in value:
        raise Misconfigured(f"The value of {name} holds ${{, which dotenv readers replace.")
    if "\r" in value:
        raise Misconfigured(f"The value of {name} holds a carriage return, which readers change.")
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _shell(_name: str, value: str) -> str:
    """Quote as POSIX.1-2024, Shell Command Language, section 2.2.2 undoes it."""
    return shlex.quote(value)


def _plain(name: str, value: str) -> str:
    """Quote nothing: the reader takes the rest of the line as it is."""
    if value.strip() != value or len(value.splitlines()) > 1:
        raise Misconfigured(f"The value of {name} holds a line break or spaces at an end.")
    return value


_QUOTES: Mapping[str, Callable[[str, str], str]] = {
    "dotenv": _dotenv,
    "shell": _shell,
    "plain": _plain,
}
