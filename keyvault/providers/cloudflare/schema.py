"""The forms of a Cloudflare Connection, which is one account, and of a key there."""

from __future__ import annotations

from keyvault.providers.base import Field

URL = "https://api.cloudflare.com/client/v4"

CONFIG = (
    Field("url", "API address", default=URL, names_server=True),
    Field(
        "account",
        "Account",
        help="Its id, 32 characters, as the dashboard's address shows it.",
        names_server=True,
    ),
)
MATERIAL = (
    Field(
        "api_token",
        "API token",
        kind="secret",
        help="One with the permission Account API Tokens Write on this account.",
    ),
)
OPTIONS = (
    Field(
        "permission_groups",
        "Permission groups",
        help="Their ids, separated by spaces; GET /accounts/…/tokens/permission_groups lists them.",
    ),
    Field(
        "resources",
        "Resources",
        required=False,
        help="Such as com.cloudflare.api.account.zone.<id>, separated by spaces; "
        "empty for the whole account.",
    ),
    Field(
        "networks",
        "Networks",
        required=False,
        help="From which the key works, such as 203.0.113.0/24; keyvault's own must be among "
        "them, because it tries the key. Empty for everywhere.",
    ),
)
