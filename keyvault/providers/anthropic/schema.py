"""The forms of an Anthropic Connection and of the value that a person hands over."""

from __future__ import annotations

from keyvault.providers.base import Field

URL = "https://api.anthropic.com"

CONFIG = (
    Field("url", "API address", default=URL, names_server=True),
    Field(
        "workspace",
        "Workspace",
        required=False,
        help="Its id, such as wrkspc_abc; empty for all workspaces of the organisation.",
        names_server=True,
    ),
)
MATERIAL = (
    Field("admin_key", "Admin key", kind="secret", help="It begins with sk-ant-admin there."),
)
VALUE = (
    Field(
        "api_key",
        "API key",
        kind="secret",
        help="Paste it as it was shown. It is tried once before it is taken.",
    ),
)
