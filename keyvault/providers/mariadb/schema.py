"""The forms of a MariaDB Connection and of a key there."""

from __future__ import annotations

from collections.abc import Mapping

from keyvault.providers.base import JSON, Field

CONFIG = (
    Field(
        "host",
        "Host",
        help="A host name, an IP address, or the directory that holds mysqld.sock.",
        names_server=True,
    ),
    Field("port", "Port", kind="number", default="3306", names_server=True),
    Field("user", "Admin user", help="An account that may create accounts and end sessions."),
    Field(
        "tls",
        "TLS",
        kind="choice",
        default="on",
        choices=(
            ("on", "Encrypted, certificate and host name checked; new accounts must do the same"),
            ("off", "Not encrypted (this machine only)"),
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
        "account_host",
        "Hosts of new accounts",
        default="%",
        help="Where programs may log in from, as MariaDB writes it: % for everywhere, or 10.0.%."
        " keyvault must be among them, as it tries each account.",
    ),
    Field(
        "role",
        "Role for new keys",
        required=False,
        help="Fills the form of each new key, where it can be changed.",
    ),
)
MATERIAL = (Field("password", "Admin password", kind="secret"),)
OPTIONS = (
    Field("role", "Role", help="The existing role whose rights the key has."),
    Field(
        "database",
        "Database",
        required=False,
        help="Handed out with the key; the role decides what may be reached.",
    ),
    Field(
        "connection_limit",
        "Connections at most",
        kind="number",
        required=False,
        help="For each account. Empty: no limit.",
    ),
)


def proposed(config: Mapping[str, JSON]) -> dict[str, str]:
    """Return the options of a key that nobody typed."""
    role = str(config.get("role") or "")
    return {"role": role} if role else {}
