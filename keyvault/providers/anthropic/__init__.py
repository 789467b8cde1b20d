"""API keys of Anthropic: a person makes them, keyvault tries, suspends, lists and ends them."""

from __future__ import annotations

from keyvault.providers.anthropic.provider import Anthropic

__all__ = ["Anthropic"]
