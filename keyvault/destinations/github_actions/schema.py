"""The forms of a GitHub account and of a place for secrets there."""

from __future__ import annotations

from keyvault.destinations.base import Field

DEFAULT_URL = "https://api.github.com"
# The longest that GitHub lets a job run on its own machines.
LONGEST_JOB_S = 21_600

CONFIG = (
    Field(
        "url",
        "API address",
        required=False,
        default=DEFAULT_URL,
        help="For GitHub Enterprise Server: https://HOST/api/v3.",
        names_server=True,
    ),
)
MATERIAL = (Field("token", "Access token", kind="secret", help="May write secrets and variables."),)
TARGET = (
    Field("repository", "Repository", help="OWNER/NAME"),
    Field("environment", "Environment", required=False, help="Empty: the whole repository."),
    Field(
        "entries",
        "Secrets",
        kind="longtext",
        default="value=API_KEY",
        help="Part of the key and secret: value=API_KEY, password=DB_PASSWORD.",
    ),
    Field(
        "longest_job_s",
        "Longest job in seconds",
        kind="number",
        required=False,
        default=str(LONGEST_JOB_S),
        help="A job that runs keeps the value that it started with.",
    ),
)
