"""Connections to a target server: vetted, bounded in time, with errors that hold no server text.

A server's message may repeat what it was sent, so none is passed on: the
sentence is ours and names only the SQLSTATE.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from keyvault.plugins.deadline import cut_after
from keyvault.providers.base import (
    JSON,
    Ambiguous,
    Conflict,
    Context,
    Denied,
    Misconfigured,
    ProviderError,
    Transient,
)

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]
Cursor = psycopg.Cursor[Row]

_CONNECT_S = 5
_LEAST_S = 2  # libpq's smallest connect timeout.
_RETRY_CLASSES = {"08", "40", "53", "55", "57", "58", "XX"}
_KINDS: Mapping[str, type[ProviderError]] = {
    "42501": Denied,
    "0LP01": Denied,
    "42710": Conflict,
    "2BP01": Conflict,
}
# What the server says before a session exists comes without an SQLSTATE through libpq, and in
# the server's language: what is not recognised here counts as unclear, never as refused.
_REFUSALS = (
    "password authentication failed",
    "is not permitted to log in",
    "no password assigned",
    "authentication failed for user",
)
_WRONG_PLACE = (
    ("no pg_hba.conf entry", "The server's pg_hba.conf has no line for this login from here."),
    ("does not support SSL", "The server offers no TLS; choose another TLS mode or switch it on."),
    ("certificate", "The server's certificate is not accepted."),
    ("root.crt", "The certificate of the authority cannot be read."),
)


class Rejected(Denied):
    """The server refused the login itself: wrong password, or a role that may not log in."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects, and to which database."""

    user: str
    password: Secret
    database: str


def admin(ctx: Context) -> Login:
    """Return the Connection's own login. Raises Denied when it has no password."""
    password = ctx.admin.get("password")
    if password is None:
        raise Denied("The Connection has no admin password. Enter it again.")
    return Login(str(ctx.config["user"]), password, str(ctx.config.get("database") or "postgres"))


@contextmanager
def connect(ctx: Context, login: Login) -> Iterator[Connection]:
    """Open one connection that ends, at the latest, at the call's deadline.

    Raises Misconfigured, Transient, and Rejected when the login is refused.
    """
    host, port = str(ctx.config["host"]), int(ctx.config.get("port") or 5432)
    address = ctx.dial(host, port)
    left = ctx.remaining()
    if left < _LEAST_S:
        raise Transient("Too little time is left to connect; nothing was sent.")
    with _authority(ctx.config) as trust:
        try:
            connection = psycopg.connect(
                host=host,
                hostaddr=None if address.startswith("/") else address,
                port=port,
                user=login.user,
                password=login.password.reveal().decode(),
                dbname=login.database,
                connect_timeout=int(min(left, _CONNECT_S)),
                application_name="keyvault",
                gssencmode="disable",
                **trust,
            )
        except psycopg.Error as error:
            raise _not_connected(error, login.user) from None
    with closing(connection), cut_after(ctx.remaining(), connection.fileno()):
        yield connection


@contextmanager
def reading(ctx: Context, login: Login) -> Iterator[Cursor]:
    """Open a read-only transaction. Raises as `connect`, and ProviderErrors of its statements."""
    with connect(ctx, login) as connection:
        connection.read_only = True
        try:
            cursor = connection.cursor()
            limit(cursor, ctx)
            yield cursor
        except psycopg.Error as error:
            raise translate(error) from None


@contextmanager
def changing(ctx: Context, login: Login) -> Iterator[Cursor]:
    """Open a transaction that is committed at the end of the block.

    What fails before COMMIT is sent is certainly undone by the server; a
    COMMIT without an answer is Ambiguous.
    """
    with connect(ctx, login) as connection:
        try:
            cursor = connection.cursor()
            limit(cursor, ctx)
            yield cursor
        except psycopg.Error as error:
            raise translate(error) from None
        try:
            connection.commit()
        except psycopg.Error as error:
            if connection.closed:
                raise Ambiguous("The server gave no answer to COMMIT.") from None
            raise translate(error) from None


def translate(error: psycopg.Error) -> ProviderError:
    """Return the protocol's error for one of a statement that was not committed."""
    state = error.sqlstate
    if state is None:
        return Transient("The connection broke before COMMIT; the server has undone the change.")
    sentence = f"PostgreSQL answered {type(error).__name__} ({state})."
    if state in _KINDS:
        return _KINDS[state](sentence)
    if state[:2] in _RETRY_CLASSES:
        return Transient(sentence)
    return Misconfigured(sentence)


def _not_connected(error: psycopg.Error, user: str) -> ProviderError:
    text = str(error)
    if any(phrase in text for phrase in _REFUSALS):
        return Rejected(f"The server refused the login of {user}.")
    for phrase, sentence in _WRONG_PLACE:
        if phrase in text:
            return Misconfigured(sentence)
    if "database" in text and "does not exist" in text:
        return Misconfigured("The database does not exist.")
    return Transient(f"No connection as {user}; nothing was changed.")


def limit(cursor: Cursor, ctx: Context) -> None:
    """Let the server give up by itself a little before the deadline, and sooner on locks."""
    left_ms = max(100, int(ctx.remaining() * 900))
    cursor.execute(
        "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true)",
        (str(left_ms), str(left_ms // 2)),
    )


@contextmanager
def _authority(config: Mapping[str, JSON]) -> Iterator[dict[str, Any]]:
    """Yield libpq's TLS parameters; it takes an authority's certificate only as a file."""
    mode, certificate = str(config.get("tls") or "verify-full"), str(config.get("ca") or "")
    if not certificate:
        yield {"sslmode": mode, "sslrootcert": "system" if mode == "verify-full" else None}
        return
    with tempfile.NamedTemporaryFile("w", suffix=".pem", prefix="keyvault-ca-") as file:
        file.write(certificate)
        file.flush()
        yield {"sslmode": mode, "sslrootcert": file.name}
