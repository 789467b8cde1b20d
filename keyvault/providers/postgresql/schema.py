"""The forms of a PostgreSQL Connection and of a key there."""

from __future__ import annotations

from collections.abc import Mapping

from keyvault.providers.base import JSON, Field

CONFIG = (
    Field(
        "host",
        "Host",
        help="A host name, an IP address, or the directory of a unix socket.",
        names_server=True,
    ),
    Field("port", "Port", kind="number", default="5432", names_server=True),
    Field("database", "Database", default="postgres", help="Where the admin logs in."),
    Field("user", "Admin user", help="A role with CREATEROLE; a superuser is not needed."),
    Field(
        "tls",
        "TLS",
        kind="choice",
        default="verify-full",
        choices=(
            ("verify-full", "Encrypted, certificate and host name checked"),
            ("verify-ca", "Encrypted, certificate checked"),
            ("require", "Encrypted, server not checked"),
            ("disable", "Not encrypted (this machine only)"),
        ),
    ),
    Field(
        "ca",
        "Authority certificate",
        kind="longtext",
        required=False,
        help="PEM. Leave empty to trust the authorities of the system.",
    ),
    Field(
        "owner_role",
        "Owner role for new keys",
        required=False,
        help="Fills the form of each new key, where it can be changed.",
    ),
)
MATERIAL = (Field("password", "Admin password", kind="secret"),)
OPTIONS = (
    Field(
        "login_prefix",
        "Login name",
        required=False,
        help="Two login roles are made from it and used in turn: billing gives billing_a and"
        " billing_b. Empty: the name of the key, with underscores for hyphens.",
    ),
    Field(
        "owner_role",
        "Owner role",
        help="The existing role whose rights the key has and which owns what it creates.",
    ),
    Field("database", "Database", required=False, help="Default: the database of the Connection."),
    Field(
        "connection_limit",
        "Connections at most",
        kind="number",
        required=False,
        help="For each of the two login roles. Empty: no limit.",
    ),
)


def proposed(config: Mapping[str, JSON], name: str) -> dict[str, str]:
    """Return the options of a key that nobody typed; PostgreSQL keeps names in pg_ for itself."""
    login = name.replace("-", "_")
    options = {
        "login_prefix": f"key_{login}" if login.startswith("pg_") else login,
        "owner_role": str(config.get("owner_role") or ""),
    }
    return {option: value for option, value in options.items() if value}
