"""The two roles of keyvault's database: one owns the schema, the other serves.

`kv_app` reads and writes rows and can change no table; on the ledger's tables
it may only add and read (migration 0002_ledger). Repeated at every start, so
that a half-made database is completed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyvault.launcher.postgres import Cluster

if TYPE_CHECKING:
    from psycopg import Connection

OWNER, APP, DATABASE = "kv_owner", "kv_app", "keyvault"

_IN_DATABASE = """
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO kv_app;
ALTER DEFAULT PRIVILEGES FOR ROLE kv_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO kv_app;
ALTER DEFAULT PRIVILEGES FOR ROLE kv_owner IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO kv_app;
"""


@dataclass(frozen=True, slots=True)
class Urls:
    """How each role reaches the database."""

    owner: str
    app: str


def prepare(cluster: Cluster, *, owner_password: str, app_password: str) -> Urls:
    """Make roles and database where they are missing and return their addresses.

    Raises psycopg.Error.
    """
    import psycopg  # noqa: PLC0415 - heavy, and only a start needs it

    with psycopg.connect(cluster.admin(), autocommit=True) as link:
        ensure_role(link, OWNER, owner_password)
        ensure_role(link, APP, app_password)
        ensure_database(link, DATABASE, OWNER)
    with psycopg.connect(cluster.admin(DATABASE), autocommit=True) as link:
        link.execute(_IN_DATABASE)
    return Urls(
        owner=cluster.url(DATABASE, user=OWNER, password=owner_password),
        app=cluster.url(DATABASE, user=APP, password=app_password),
    )


def ensure_role(
    link: Connection[tuple[object, ...]], name: str, password: str, *, rights: str = ""
) -> None:
    """Make a role that may log in, or set its password. `rights`: further role options."""
    from psycopg import sql  # noqa: PLC0415 - heavy, and only a start needs it

    there = link.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    verb = sql.SQL("ALTER" if there else "CREATE")
    options = sql.SQL(f"LOGIN NOSUPERUSER {rights} PASSWORD")
    link.execute(
        sql.SQL("{} ROLE {} WITH {} {}").format(
            verb, sql.Identifier(name), options, sql.Literal(password)
        )
    )


def ensure_database(link: Connection[tuple[object, ...]], name: str, owner: str) -> None:
    """Make a database that only its owner's grants open."""
    from psycopg import sql  # noqa: PLC0415 - heavy, and only a start needs it

    database, role = sql.Identifier(name), sql.Identifier(owner)
    if not link.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
        link.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
    link.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    link.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO kv_app").format(database))
