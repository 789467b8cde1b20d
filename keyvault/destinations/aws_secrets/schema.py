"""The forms of an account of AWS and of one secret in it."""

from __future__ import annotations

from keyvault.destinations.base import Field

CONFIG = (
    Field(
        "region", "Region", help="Where the secrets are, such as eu-central-1.", names_server=True
    ),
    Field(
        "endpoint",
        "Endpoint",
        required=False,
        help="Replaces the address of Secrets Manager, such as https://sm.internal. Usually empty.",
        names_server=True,
    ),
)
MATERIAL = (
    Field("access_key_id", "Access key id", kind="secret"),
    Field("secret_access_key", "Secret access key", kind="secret"),
)
TARGET = (
    Field(
        "secret",
        "Secret",
        help="The name or the ARN of a secret that exists already. keyvault alone changes its value.",
        names_server=True,
    ),
    Field(
        "format",
        "Format",
        kind="choice",
        default="json",
        choices=(
            ("json", "A JSON object with the parts below"),
            ("text", "The one part below, as it is"),
        ),
    ),
    Field(
        "parts",
        "Parts",
        kind="longtext",
        required=False,
        help="Such as value=API_KEY username=DB_USER. Empty: every part under its own name.",
    ),
)
