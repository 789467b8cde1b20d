"""GitHub Actions secrets: of a repository or of one of its environments, sealed to its key."""

from __future__ import annotations

from keyvault.destinations.github_actions.destination import GitHubActions

__all__ = ["GitHubActions"]
