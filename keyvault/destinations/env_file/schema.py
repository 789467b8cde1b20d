"""The forms of a directory and of a file in it."""

from __future__ import annotations

from keyvault.destinations.base import Field

CONFIG = (
    Field(
        "directory",
        "Directory",
        help="An absolute path at or below one that KEYVAULT_ENV_FILE_ROOTS names.",
        names_server=True,
    ),
)
TARGET = (
    Field("file", "File", help="A name in the directory, such as orders.env."),
    Field(
        "variables",
        "Variables",
        kind="longtext",
        default="value=API_KEY",
        help="Part of the key and variable: value=API_KEY, password=DB_PASSWORD.",
    ),
    Field(
        "format",
        "Format",
        kind="choice",
        default="dotenv",
        choices=(
            ("dotenv", "dotenv: read by a library of the program"),
            ("shell", "shell: read by `. file`"),
            ("plain", "plain: read by docker --env-file; no quotes"),
        ),
    ),
    Field(
        "mode",
        "Mode",
        kind="choice",
        default="0600",
        choices=(
            ("0600", "0600: the user of keyvault's worker"),
            ("0640", "0640: also the group of the file, for reading"),
            ("0400", "0400: the user, for reading"),
            ("0440", "0440: user and group, for reading"),
        ),
    ),
)
