"""Say what stands in the way before a key is asked for, and how to mend it. Reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyvault.providers.base import (
    Context,
    Denied,
    Misconfigured,
    Problem,
    ProviderError,
    Transient,
)
from keyvault.providers.mariadb import accounts
from keyvault.providers.mariadb.session import Link, admin, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEEDED = ("CREATE USER", "PROCESS", "CONNECTION ADMIN")
_SURPLUS = "SUPER"
_MENDS = {
    Denied.code: "Enter the admin password again, or give the rights of docs/providers/mariadb.md.",
    Misconfigured.code: "Correct the Connection, or have the address approved on its allow-list.",
    Transient.code: "See that the server runs and can be reached from here, then check again.",
}
_OLDEST = (10, 5)


def problems(ctx: Context) -> list[Problem]:
    """Return everything found; a server that cannot be reached is one problem."""
    try:
        login = admin(ctx)
        with connect(ctx, login) as link:
            found = list(_server(link))
            if found:
                return found
            found = list(_rights(link, login.user))
            accounts.read(link, "kv-nobody-1")
            return found + list(_role(link, str(ctx.options.get("role") or "")))
    except ProviderError as error:
        return [Problem(error.sentence, _MENDS.get(error.code, "Correct the Connection."))]


def _server(link: Link) -> Iterator[Problem]:
    [(version, read_only)] = link.ask("SELECT VERSION(), @@global.read_only")
    number, _, rest = str(version).partition("-")
    if "mariadb" not in rest.lower():
        yield Problem(
            "The server is MySQL and not MariaDB.", "Use the provider By hand for its keys."
        )
        return
    if tuple(int(part) for part in number.split(".")[:2] if part.isdigit()) < _OLDEST:
        yield Problem("The server is older than MariaDB 10.5.", "Upgrade it.")
    if str(read_only) not in {"0", "OFF"}:
        yield Problem("The server is read-only.", "Enter the address of the primary.")


def _rights(link: Link, user: str) -> Iterator[Problem]:
    [(me,)] = link.ask("SELECT CURRENT_USER()")
    name, _, host = str(me).rpartition("@")
    rows = link.ask(
        "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = %s",
        (f"'{name}'@'{host}'",),
    )
    held = {str(row[0]) for row in rows}
    for right in _NEEDED:
        if right not in held:
            yield Problem(
                f"{user} lacks the right {right}.", f"GRANT {right} ON *.* TO '{name}'@'{host}';"
            )
    if _SURPLUS in held:
        yield Problem(
            f"{user} has the right {_SURPLUS}, which is more than keyvault needs.",
            "Use an account with the rights of docs/providers/mariadb.md alone.",
            is_fatal=False,
        )


def _role(link: Link, role: str) -> Iterator[Problem]:
    if not role:
        return
    try:
        accounts.require_role(link, role)
    except Misconfigured as error:
        yield Problem(error.sentence, "docs/providers/mariadb.md has the statements.")
