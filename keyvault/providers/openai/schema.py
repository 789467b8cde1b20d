"""The forms of an OpenAI Connection, which is one project, and of a key there."""

from __future__ import annotations

from keyvault.providers.base import Field

URL = "https://api.openai.com"

CONFIG = (
    Field(
        "url",
        "API address",
        default=URL,
        help="Another one for data that stays in a region, such as https://eu.api.openai.com.",
        names_server=True,
    ),
    Field("project", "Project", help="Its id, such as proj_abc.", names_server=True),
    Field(
        "service_account",
        "Service account for new keys",
        required=False,
        help="Its id; fills the form of each new key, where it can be changed.",
    ),
)
MATERIAL = (Field("admin_key", "Admin key", kind="secret", help="It begins with sk-admin- there."),)
OPTIONS = (
    Field("service_account", "Service account", help="Its id in the Connection's project."),
    Field(
        "scopes",
        "Scopes",
        required=False,
        help="Separated by spaces; empty for all that the service account may do. "
        "The key must be allowed to list models, by which it is tried.",
    ),
    Field(
        "expires_days",
        "Ends by itself after days",
        kind="number",
        required=False,
        help="From 1 to 365; empty for never. Longer than the key's lifetime here.",
    ),
)
