"""The forms of a Valkey Connection and of a key there."""

from __future__ import annotations

from keyvault.providers.base import Field

CONFIG = (
    Field(
        "host",
        "Host",
        help="A host name, an IP address, or the directory that holds valkey.sock.",
        names_server=True,
    ),
    Field("port", "Port", kind="number", default="6379", names_server=True),
    Field("user", "Admin user", help="An ACL user that may change ACL users."),
    Field(
        "tls",
        "TLS",
        kind="choice",
        default="on",
        choices=(
            ("on", "Encrypted, certificate and host name checked"),
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
)
MATERIAL = (Field("password", "Admin password", kind="secret"),)
OPTIONS = (
    Field("keys", "Key patterns", help="Such as app:* cache:*, separated by spaces."),
    Field("channels", "Channel patterns", required=False, help="For publish and subscribe."),
    Field(
        "commands",
        "Commands",
        default="+@read +@write",
        help="Categories or commands with + or -. Those of @admin are always taken away.",
    ),
)
