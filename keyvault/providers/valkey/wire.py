"""The little of the RESP2 protocol that a few admin commands need.

The usual client retries refused logins with a back-off and resolves the host
again; here each step obeys the call's deadline and goes to the vetted address.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from keyvault.plugins.deadline import cut_after
from keyvault.providers.base import JSON, Ambiguous, Context, Denied, Misconfigured, Transient

Value = bytes | int | None | list["Value"]

_CONNECT_S = 5.0
_MAX_ITEMS = 100_000
_MAX_BYTES = 1_000_000
_REFUSED = {"WRONGPASS", "NOAUTH"}


class Rejected(Denied):
    """The server refused the login itself."""


class Answered(Exception):
    """The server answered with an error; `word` is its first word, the rest is dropped.

    has_no_acl_file: it said that it is not configured to use one.
    """

    def __init__(self, word: str, *, has_no_acl_file: bool = False) -> None:
        super().__init__(word)
        self.word, self.has_no_acl_file = word, has_no_acl_file


class Wire:
    """One connection. `ask` reads; `tell` changes, so that its lost answer is Ambiguous."""

    def __init__(self, ctx: Context, connection: socket.socket, answers: BinaryIO) -> None:
        self._ctx, self._socket, self._answers = ctx, connection, answers

    def ask(self, *words: str | bytes) -> Value:
        """Send a command that changes nothing. Raises Transient, Answered."""
        self._ctx.remaining()
        try:
            return self._exchange(words)
        except (OSError, ValueError, EOFError):
            raise Transient("The server gave no usable answer; nothing was changed.") from None

    def tell(self, *words: str | bytes) -> Value:
        """Send a command that changes something. Raises Ambiguous, Answered."""
        self._ctx.remaining()
        try:
            return self._exchange(words)
        except (OSError, ValueError, EOFError):
            raise Ambiguous("The server gave no usable answer to a change.") from None

    def _exchange(self, words: tuple[str | bytes, ...]) -> Value:
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        lines = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(b"*%d\r\n%b" % (len(parts), lines))
        return self._read()

    def _read(self) -> Value:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise _answered(rest)
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        size = int(rest)
        if kind == b"$":
            return None if size < 0 else self._bytes(size)
        if kind == b"*" and size <= _MAX_ITEMS:
            return None if size < 0 else [self._read() for _ in range(size)]
        raise ValueError("not RESP2")

    def _line(self) -> bytes:
        line = self._answers.readline(_MAX_BYTES)
        if not line.endswith(b"\r\n"):
            raise EOFError
        return line[:-2]

    def _bytes(self, size: int) -> bytes:
        if size > _MAX_BYTES:
            raise ValueError("too long")
        data = self._answers.read(size + 2)
        if len(data) != size + 2:
            raise EOFError
        return data[:-2]


def _answered(text: bytes) -> Answered:
    word = text.split(b" ", 1)[0]
    is_word = word.isalpha() and word.isupper()
    return Answered(
        word.decode() if is_word else "ERR",
        has_no_acl_file=b"not configured to use an ACL file" in text,
    )


@contextmanager
def connect(ctx: Context, user: str, password: bytes) -> Iterator[Wire]:
    """Open a connection and log in. Raises Misconfigured, Transient, and Rejected."""
    host, port = str(ctx.config["host"]), int(ctx.config.get("port") or 6379)
    address = ctx.dial(host, port)
    try:
        connection = _open(address, host, port, ctx)
    except (OSError, ssl.CertificateError) as error:
        if isinstance(error, ssl.SSLError):
            raise Misconfigured("No TLS session: the certificate or the mode is wrong.") from None
        raise Transient("No connection; nothing was changed.") from None
    connection.settimeout(None)
    with (
        connection,
        connection.makefile("rb") as answers,
        cut_after(ctx.remaining(), connection.fileno()),
    ):
        wire = Wire(ctx, connection, answers)
        _log_in(wire, user, password)
        yield wire


def _log_in(wire: Wire, user: str, password: bytes) -> None:
    try:
        wire.ask("AUTH", user, password)
    except Answered as error:
        if error.word in _REFUSED:
            raise Rejected(f"The server refused the login of {user}.") from None
        raise Transient(f"The server answered {error.word} to the login.") from None


def _open(address: str, host: str, port: int, ctx: Context) -> socket.socket:
    seconds = min(ctx.remaining(), _CONNECT_S)
    if address.startswith("/"):
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        local.settimeout(seconds)
        local.connect(str(Path(address) / "valkey.sock"))
        return local
    plain = socket.create_connection((address, port), timeout=seconds)
    if str(ctx.config.get("tls") or "on") == "off":
        return plain
    return _trust(ctx.config).wrap_socket(plain, server_hostname=host)


def _trust(config: Mapping[str, JSON]) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=str(config.get("ca") or "") or None)
