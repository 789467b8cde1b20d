"""GitHub App installation tokens: credentials for one run that end by themselves within an hour.

Not among the built-in providers yet: nothing hands out such credentials so far.
"""

from __future__ import annotations

from keyvault.providers.github_app.provider import GitHubApp

__all__ = ["GitHubApp"]
