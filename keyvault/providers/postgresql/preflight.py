"""Say what stands in the way before a key is asked for, and how to mend it. Reads only."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from psycopg import sql

from keyvault.providers.base import (
    Context,
    Denied,
    Misconfigured,
    Problem,
    ProviderError,
    Transient,
)
from keyvault.providers.postgresql.session import Cursor, admin, reading

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLDEST = 130000
_SPLIT_CREATEROLE = 160000  # From 16 on, CREATEROLE alone no longer reaches every role.
_MENDS = {
    Denied.code: "Enter the admin password again, or set a new one at the server.",
    Misconfigured.code: "Correct the Connection, or have the address approved on its allow-list.",
    Transient.code: "See that the server runs and can be reached from here, then check again.",
}


def problems(ctx: Context) -> list[Problem]:
    """Return everything found; a server that cannot be reached is one problem."""
    try:
        login = admin(ctx)
        with reading(ctx, login) as cursor:
            found = [*_server(cursor), *_rights(cursor, login.user), *_transport(ctx, cursor)]
            owner = str(ctx.options.get("owner_role", ""))
            return found + ([*_owner(cursor, owner, login.user)] if owner else [])
    except ProviderError as error:
        return [Problem(error.sentence, _MENDS.get(error.code, "Correct the Connection."))]


def _server(cursor: Cursor) -> Iterator[Problem]:
    if cursor.connection.info.server_version < _OLDEST:
        yield Problem("The server is older than PostgreSQL 13.", "Upgrade it.")
    cursor.execute("SELECT pg_is_in_recovery()")
    if cursor.fetchone() == (True,):
        yield Problem("The server is a standby.", "Enter the address of the primary.")


def _rights(cursor: Cursor, user: str) -> Iterator[Problem]:
    cursor.execute("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user")
    is_super, creates = cursor.fetchone() or (False, False)
    if is_super:
        yield Problem(
            f"{user} is a superuser, which is more than keyvault needs.",
            "Use a role with CREATEROLE alone.",
            is_fatal=False,
        )
    elif not creates:
        yield Problem(
            f"{user} may not create roles.",
            f"Run as a superuser: ALTER ROLE {_quoted(cursor, user)} CREATEROLE;",
        )


def _transport(ctx: Context, cursor: Cursor) -> Iterator[Problem]:
    cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    is_encrypted = cursor.fetchone() == (True,)
    mode = str(ctx.config.get("tls") or "verify-full")
    if is_encrypted and mode != "require":
        return
    if not is_encrypted and _is_local(cursor):
        return
    yield Problem(
        "The server's identity is not checked." if is_encrypted else "The way is not encrypted.",
        "Choose verify-full, and give the authority's certificate if it is your own.",
        is_fatal=False,
    )


def _is_local(cursor: Cursor) -> bool:
    address = cursor.connection.info.hostaddr
    return not address or ip_address(address).is_loopback


def _owner(cursor: Cursor, owner: str, user: str) -> Iterator[Problem]:
    """Yield what keeps `user` from handing membership in `owner` on."""
    cursor.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (owner,))
    row = cursor.fetchone()
    if row is None:
        yield Problem(
            f"There is no role {owner}.", f"CREATE ROLE {_quoted(cursor, owner)} NOLOGIN;"
        )
        return
    if cursor.connection.info.server_version < _SPLIT_CREATEROLE:
        return
    cursor.execute("SELECT pg_has_role(current_user, %s, 'MEMBER WITH ADMIN OPTION')", (owner,))
    if cursor.fetchone() != (True,):
        yield Problem(
            f"{user} may not hand on membership in {owner}.",
            f"GRANT {_quoted(cursor, owner)} TO {_quoted(cursor, user)}"
            " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;",
        )


def _quoted(cursor: Cursor, name: str) -> str:
    return sql.Identifier(name).as_string(cursor.connection)
