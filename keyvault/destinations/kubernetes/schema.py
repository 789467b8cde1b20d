"""The forms of a cluster and of a Secret in it."""

from __future__ import annotations

from keyvault.destinations.base import Field

ENVIRONMENT, VOLUME = "environment", "volume"

CONFIG = (
    Field(
        "url",
        "API server",
        help="Such as https://kubernetes.example:6443.",
        names_server=True,
    ),
    Field(
        "ca",
        "Authority certificate",
        kind="longtext",
        required=False,
        help="PEM: the cluster's ca.crt. Leave empty to trust the authorities of the system.",
    ),
)
MATERIAL = (Field("token", "Service account's token", kind="secret"),)
TARGET = (
    Field("namespace", "Namespace"),
    Field("secret", "Secret", help="It must exist; keyvault creates none."),
    Field(
        "entries",
        "Entries",
        kind="longtext",
        default="value=API_KEY",
        help="Part of the key and entry: value=API_KEY, password=PGPASSWORD.",
    ),
    Field(
        "deployment",
        "Deployment",
        required=False,
        help="In the same namespace. It is restarted when a version becomes live.",
    ),
    Field(
        "mounted_as",
        "Read as",
        kind="choice",
        default=ENVIRONMENT,
        choices=(
            (ENVIRONMENT, "Environment or subPath (read at the start only)"),
            (VOLUME, "Files of a volume (followed by the kubelet)"),
        ),
    ),
)
