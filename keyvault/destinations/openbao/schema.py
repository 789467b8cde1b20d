"""The forms of a KV engine and of a secret in it."""

from __future__ import annotations

from keyvault.destinations.base import Field

CONFIG = (
    Field(
        "address",
        "Address",
        help="Such as https://bao.example.com:8200.",
        names_server=True,
    ),
    Field(
        "namespace",
        "Namespace",
        required=False,
        help="Leave empty for the root namespace.",
        names_server=True,
    ),
    Field(
        "mount",
        "Mount",
        default="secret",
        help="Where the KV engine, version 2, is mounted.",
        names_server=True,
    ),
    Field(
        "ca",
        "Authority certificate",
        kind="longtext",
        required=False,
        help="PEM. Leave empty to trust the authorities of the system.",
    ),
)
MATERIAL = (Field("token", "Token", kind="secret"),)
TARGET = (
    Field("path", "Path", help="Below the mount, such as apps/orders."),
    Field(
        "fields",
        "Fields",
        kind="longtext",
        default="value=value",
        help="Part of the key and field of the secret: value=api_key, username=user.",
    ),
)
