"""The forms of a Connection to one installation of a GitHub App, and of a key there."""

from __future__ import annotations

from keyvault.providers.base import Field

URL = "https://api.github.com"

CONFIG = (
    Field(
        "url",
        "API address",
        default=URL,
        help="Of a GitHub Enterprise Server: https://HOST/api/v3.",
        names_server=True,
    ),
    Field("app", "App", help="The app's client id or its number.", names_server=True),
    Field(
        "installation",
        "Installation",
        kind="number",
        help="Its number, at the end of the address of the installation's page.",
        names_server=True,
    ),
)
MATERIAL = (Field("private_key", "Private key", kind="secret", help="The app's .pem file, whole."),)
OPTIONS = (
    Field(
        "permissions",
        "Permissions",
        help="Such as contents:read issues:write, separated by spaces.",
    ),
    Field(
        "repositories",
        "Repositories",
        required=False,
        help="Names without the owner, separated by spaces; empty for all of the installation.",
    ),
    Field(
        "longest_minutes",
        "Longest lease in minutes",
        kind="number",
        required=False,
        default="60",
        help="How long one run may hold a token, from 1 to 60. GitHub ends it after 60.",
    ),
)
