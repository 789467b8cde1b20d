"""Connections to a MariaDB: vetted, bounded in time, with errors that hold no server text.

A server's message may repeat what it was sent, so none is passed on: the
sentence is ours and names only the error's number.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pymysql

from keyvault.crypto.secret import Secret
from keyvault.plugins.deadline import cut_after
from keyvault.providers.base import (
    Ambiguous,
    Conflict,
    Context,
    Denied,
    Misconfigured,
    ProviderError,
    Transient,
)

Row = tuple[Any, ...]

DEFAULT_PORT = 3306
_CONNECT_S = 5.0
_CLIENT_CODES = range(2000, 3000)  # Raised by the library: the connection is over.
_NO_TLS = 2026
# A statement that was cut short by the server's end or by KILL.
_CUT_SHORT = {1053, 1317, 1927}
_REFUSALS = {1045, 1698, 4151}
_KINDS: Mapping[int, type[ProviderError]] = {
    1044: Denied,
    1095: Denied,
    1142: Denied,
    1143: Denied,
    1227: Denied,
    1410: Denied,
    1396: Conflict,
    **dict.fromkeys((1040, 1203, 1205, 1213, 1226), Transient),
}
# What an exchange with a broken or hostile server raises in the library besides its own errors.
_BROKEN = (pymysql.Error, OSError, ValueError, LookupError, AssertionError, RuntimeError, TypeError)


class Rejected(Denied):
    """The server refused the login itself: wrong password, unknown or locked account."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects."""

    user: str
    password: Secret


class Link:
    """One connection. `ask` reads; `tell` changes, so that its lost answer is Ambiguous."""

    def __init__(self, ctx: Context, connection: pymysql.Connection) -> None:
        self._ctx, self._connection = ctx, connection

    def ask(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Return the rows of a statement that changes nothing. Raises ProviderError."""
        self._ctx.remaining()
        try:
            return self._run(statement, values)
        except _BROKEN as error:
            raise _translated(error) from None

    def tell(self, statement: str, values: Sequence[object] = ()) -> None:
        """Run a statement that changes something. Raises ProviderError, Ambiguous among them.

        Statements on accounts are no part of a transaction there: each holds at once.
        """
        self._ctx.remaining()
        try:
            self._run(statement, values)
        except _BROKEN as error:
            if _number(error) is None:
                raise Ambiguous("The server gave no usable answer to a change.") from None
            raise _translated(error) from None

    def _run(self, statement: str, values: Sequence[object]) -> list[Row]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, tuple(values))
            return list(cursor.fetchall())


def admin(ctx: Context) -> Login:
    """Return the Connection's own login. Raises Denied when it has no password."""
    password = ctx.admin.get("password")
    if password is None:
        raise Denied("The Connection has no admin password. Enter it again.")
    return Login(str(ctx.config["user"]), password)


@contextmanager
def connect(ctx: Context, login: Login) -> Iterator[Link]:
    """Open one connection that ends, at the latest, at the call's deadline.

    Raises Misconfigured, Transient, and Rejected when the login is refused.
    """
    host, port = str(ctx.config["host"]), int(ctx.config.get("port") or DEFAULT_PORT)
    address = ctx.dial(host, port)
    tls = _trust(ctx)
    connection = pymysql.Connection(
        defer_connect=True,
        host=host,
        user=login.user,
        password=login.password.reveal(),
        charset="utf8mb4",
        autocommit=True,
        program_name="keyvault",
        ssl=tls,
        ssl_disabled=tls is None,
        auth_plugin_map=dict.fromkeys(("mysql_clear_password", "dialog"), _Unspoken),
    )
    try:
        plain = _open(address, port, ctx)
    except OSError:
        raise Transient("No connection; nothing was changed.") from None
    with plain, cut_after(ctx.remaining(), plain.fileno()), closing(connection):
        try:
            connection.connect(plain)
        except _BROKEN as error:
            raise _not_connected(error, login.user) from None
        yield Link(ctx, connection)


class _Unspoken:
    """Stands for ways to log in that hand the password over as it is: a server gets none of them."""

    def __init__(self, connection: object) -> None:
        del connection

    def authenticate(self, packet: object) -> NoReturn:
        """Raise RuntimeError: the server asked for the password itself."""
        del packet
        raise RuntimeError


def _open(address: str, port: int, ctx: Context) -> socket.socket:
    seconds = min(ctx.remaining(), _CONNECT_S)
    if not address.startswith("/"):
        return socket.create_connection((address, port), timeout=seconds)
    local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        local.settimeout(seconds)
        local.connect(str(Path(address) / "mysqld.sock"))
    except OSError:
        local.close()
        raise
    return local


def _trust(ctx: Context) -> ssl.SSLContext | None:
    """Return what checks the server, or None where TLS is off. Raises Misconfigured."""
    if not is_encrypted(ctx):
        return None
    try:
        return ssl.create_default_context(cadata=str(ctx.config.get("ca") or "") or None)
    except (ssl.SSLError, ValueError):
        raise Misconfigured("The authority's certificate is not readable as PEM.") from None


def is_encrypted(ctx: Context) -> bool:
    """Say whether the Connection speaks TLS, which new accounts must then do as well."""
    return str(ctx.config.get("tls") or "on") != "off"


def _not_connected(error: Exception, user: str) -> ProviderError:
    number = _number(error)
    cause = getattr(error, "original_exception", error)
    if number in _REFUSALS:
        return Rejected(f"The server refused the login of {user}.")
    if number is not None and number not in _KINDS:
        return Misconfigured(f"The server answered the login of {user} with error {number}.")
    is_cut = isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError)
    if isinstance(cause, ssl.SSLError) and not is_cut:
        return Misconfigured("No TLS session: the certificate or the mode is wrong.")
    if isinstance(error, pymysql.Error) and error.args[:1] == (_NO_TLS,):
        return Misconfigured("The server offers no TLS; switch it on there.")
    return Transient(f"No connection as {user}; nothing was changed.")


def _translated(error: Exception) -> ProviderError:
    """Return the protocol's error for a statement that changed nothing."""
    number = _number(error)
    if number is None:
        return Transient("The server gave no usable answer; nothing was changed.")
    return _KINDS.get(number, Misconfigured)(f"MariaDB answered with error {number}.")


def _number(error: Exception) -> int | None:
    """Return the number by which the server refused something; None when it did not say that."""
    first = error.args[0] if isinstance(error, pymysql.Error) and error.args else None
    is_the_servers = isinstance(first, int) and first > 0 and first not in _CLIENT_CODES
    return first if is_the_servers and first not in _CUT_SHORT else None
