"""The forms of a Connection to a declared API and of a key there."""

from __future__ import annotations

from keyvault.providers.base import Field

CONFIG = (
    Field(
        "url",
        "API address",
        help="Such as https://api.example.com/v1/accounts/42. What tells one account from "
        "another belongs here, not into the requests.",
        names_server=True,
    ),
    Field(
        "requests",
        "Requests",
        kind="longtext",
        help="JSON; docs/providers/generic-http.md has the form and examples. No secret in it: "
        "{admin} stands for the Connection's credential.",
    ),
)
MATERIAL = (
    Field(
        "admin",
        "Admin credential",
        kind="secret",
        help="What the requests call {admin}.",
    ),
)
OPTIONS = (
    Field(
        "parameters",
        "Parameters",
        kind="longtext",
        required=False,
        help="What the create request asks for, one a line: name = value.",
    ),
)
