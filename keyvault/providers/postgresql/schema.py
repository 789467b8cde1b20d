"""The forms of a PostgreSQL Connection and of a key there."""

from __future__ import annotations

from keyvault.providers.base import Field

CONFIG = (
    Field("host", "Host", help="A host name, an IP address, or the directory of a unix socket."),
    Field("port", "Port", kind="number", default="5432"),
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
)
MATERIAL = (Field("password", "Admin password", kind="secret"),)
OPTIONS = (
    Field(
        "login_prefix",
        "Login name",
        help="Two login roles are made from it and used in turn: billing gives billing_a and"
        " billing_b.",
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
