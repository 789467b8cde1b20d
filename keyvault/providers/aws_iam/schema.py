"""The forms of a Connection to an AWS account and of a key there."""

from __future__ import annotations

from keyvault.providers.base import Field

CONFIG = (
    Field(
        "account",
        "Account",
        help="The 12 digits of the AWS account.",
        names_server=True,
    ),
    Field(
        "region",
        "Region",
        default="us-east-1",
        help="Where new keys are tried. It also tells China and GovCloud from the rest.",
    ),
    Field(
        "path",
        "Path of the users",
        default="/keyvault/",
        help="Only IAM users at or below this path get keys, and only they are listed.",
    ),
    Field(
        "endpoint",
        "Endpoint",
        required=False,
        help="Replaces the addresses of IAM and STS, such as https://iam.internal. Usually empty.",
        names_server=True,
    ),
)
MATERIAL = (
    Field("access_key_id", "Admin access key id", kind="secret"),
    Field("secret_access_key", "Admin secret access key", kind="secret"),
)
OPTIONS = (
    Field(
        "user",
        "IAM user",
        help="It exists already, with its rights, and keyvault alone makes its access keys.",
    ),
)
