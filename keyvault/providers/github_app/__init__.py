"""GitHub App installation tokens: credentials for one run that end by themselves within an hour."""

from __future__ import annotations

from keyvault.providers.github_app.provider import GitHubApp

__all__ = ["GitHubApp"]
